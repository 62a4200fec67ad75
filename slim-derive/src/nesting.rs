//! Limits how deep tokens are nested. Parsers are recursive, and a stack overflow ends the compiler
//! without naming the place.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree, token_stream};

/// The largest weight that a token may have, including the weight of the groups around it. Up to
/// this weight, unoptimised syn and this crate use at most half of the compiler's stack of 8 MiB.
const MOST: usize = 400;
/// The weight that a group adds to the tokens in it. `ANGLE` is the weight that an open `<` adds to
/// the tokens after it. Any other token weighs 1, since it may be an operator.
const GROUP: usize = 4;
const ANGLE: usize = 8;

/// Returns the tokens as they are, if none is nested too deep.
///
/// # Errors
/// Points at the first token that is nested too deep.
pub(crate) fn check(tokens: TokenStream) -> syn::Result<TokenStream> {
    let mut groups = vec![Sequence::new(tokens.clone(), 0)];
    while let Some(sequence) = groups.last_mut() {
        let Some(token) = sequence.tokens.next() else {
            groups.pop();
            continue;
        };
        let weight = sequence.weigh(&token);
        if weight > MOST {
            return Err(syn::Error::new(
                token.span(),
                "this is nested too deep, or too long; give a part of it a name of its own",
            ));
        }
        if let TokenTree::Group(group) = token {
            groups.push(Sequence::new(group.stream(), weight + GROUP - 1));
        }
    }
    Ok(tokens)
}

/// The tokens between two delimiters.
struct Sequence {
    tokens: token_stream::IntoIter,
    /// The weight of the groups around the sequence.
    outside: usize,
    /// The weight of the tokens since the last separator.
    run: usize,
    /// The number of open `<`; `pipes` is the number of `|`. A comma does not reset either.
    angles: usize,
    pipes: usize,
    /// The token before, if it changes the meaning of the next one.
    before: Option<char>,
}

impl Sequence {
    fn new(tokens: TokenStream, outside: usize) -> Self {
        Sequence { tokens: tokens.into_iter(), outside, run: 0, angles: 0, pipes: 0, before: None }
    }

    /// Weighs the next token.
    fn weigh(&mut self, token: &TokenTree) -> usize {
        let before = self.before.take();
        self.run += 1;
        match token {
            // An attribute, such as a line of documentation.
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket && before == Some('#') =>
            {
                self.run = 0;
            }
            // The end of a statement or an item, unless the next token continues it.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                self.before = Some('}');
            }
            TokenTree::Group(_) => {}
            TokenTree::Ident(ident) if before == Some('}') && ident != "else" && ident != "as" => {
                (self.run, self.angles, self.pipes) = (1, 0, 0);
            }
            TokenTree::Punct(punct) => {
                match punct.as_char() {
                    ',' => self.run = 0,
                    ';' => (self.run, self.angles, self.pipes) = (0, 0, 0),
                    '<' => self.angles += 1,
                    // Not the end of `->` or `=>`.
                    '>' if before != Some('-') => self.angles = self.angles.saturating_sub(1),
                    '|' => self.pipes += 1,
                    _ => {}
                }
                self.before = match punct.as_char() {
                    '#' => Some('#'),
                    '-' | '=' if punct.spacing() == Spacing::Joint => Some('-'),
                    _ => None,
                };
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {}
        }
        self.outside + self.run + self.angles * ANGLE + self.pipes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str) -> bool {
        check(text.parse().expect("is tokens")).is_ok()
    }

    #[test]
    fn what_is_long_is_not_deep() {
        let docs = "#[doc = \"a line\"]".repeat(5000);
        let fields = "#[prune(skip)] a: Vec<Option<(A, B)>>, f: fn(A) -> B,".repeat(5000);
        assert!(fits(&format!("{docs} struct A<T> {{ {fields} }}")));
        let statements =
            "/// Documented.\n a = b.conv2d(3 => 4, kernel = A < B).map(|xs| xs.relu() * 2);"
                .repeat(5000);
        assert!(fits(&format!("struct A {{ {statements} }}")));
        assert!(fits(&format!("struct A {{ a = {}; }}", ["b"; 100].join(" + "))));
        let methods = "pub fn f(&self, xs: &T) -> T { for x in xs { f(x) } if a { b } else { c } }";
        assert!(fits(&format!("impl A {{ {} }}", methods.repeat(5000))));
        assert!(fits(&format!("fn f() {{ xs{} }}", ".apply(&self.conv1)".repeat(90))));
    }

    #[test]
    fn what_is_deep_is_refused() {
        for (piece, end) in [
            ("(", ")"),
            ("[a, ", "]"),
            ("{", "}"),
            ("a(", ")"),
            ("if a {", "}"),
            ("A<", ">"),
            ("A<B, ", ">"),
            ("|x| ", ""),
            ("|x, y| ", ""),
            ("!", ""),
            ("a + ", ""),
            ("a.", ""),
            ("return ", ""),
            ("if a {} else ", ""),
            ("a {}.b() ", ""),
        ] {
            let nested = |depth: usize| format!("{}a{}", piece.repeat(depth), end.repeat(depth));
            assert!(fits(&nested(20)), "{piece}");
            assert!(!fits(&nested(500)), "{piece}");
        }
    }
}
