//! How often the value of each statement is read: one that is read once may be changed by its
//! reader.

use std::collections::HashMap;

use super::ast::{Statement, Value};

/// By statement: by its name anywhere, and by the statement behind it; the last is the output.
pub(super) fn of(statements: &[Statement]) -> Vec<usize> {
    let mut by_name: HashMap<String, usize> = statements
        .iter()
        .filter_map(|statement| Some((statement.name.as_ref()?.to_string(), 0)))
        .collect();
    // A word that is no name is an operation on the statement before.
    let mut behind = vec![0; statements.len()];
    for (index, statement) in statements.iter().enumerate() {
        behind[index] += calls(&statement.value);
        words(&statement.value, &mut |word| match by_name.get_mut(&word) {
            Some(reads) => *reads += 1,
            None => behind[index] += usize::from(word != "input"),
        });
    }
    let next = behind.into_iter().skip(1).chain([1]);
    let named = |statement: &Statement| {
        statement
            .name
            .as_ref()
            .and_then(|name| by_name.get(&name.to_string()))
            .copied()
            .unwrap_or(0)
    };
    statements.iter().zip(next).map(|(statement, behind)| named(statement) + behind).collect()
}

fn words(value: &Value, see: &mut impl FnMut(String)) {
    match value {
        Value::Word(word) => see(word.to_string()),
        value => parts(value).for_each(|part| words(part, see)),
    }
}

/// How many operations of a value are called on the statement before.
fn calls(value: &Value) -> usize {
    let here = usize::from(matches!(value, Value::Call { receiver: None, .. }));
    here + parts(value).map(calls).sum::<usize>()
}

fn parts(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Word(_) | Value::Wrong => Box::new(std::iter::empty()),
        Value::Part(whole, _) => Box::new(std::iter::once(&**whole)),
        Value::Call { receiver, .. } => Box::new(receiver.iter().map(|receiver| &**receiver)),
        Value::Add(a, b) | Value::Multiply(a, b) => Box::new([&**a, &**b].into_iter()),
        Value::Concat(_, parts) | Value::Tuple(_, parts) => Box::new(parts.iter()),
    }
}
