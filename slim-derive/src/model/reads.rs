//! Counts how often the value of each statement is read. A value that is read once may be changed
//! in place by its reader.

use std::collections::HashMap;

use super::ast::{Statement, Value};

/// The number of reads of each statement: by its name in any statement, and without a name by the
/// next statement. The last statement is read as the output.
pub(super) fn of(statements: &[Statement]) -> Vec<usize> {
    let mut by_name: HashMap<String, usize> = statements
        .iter()
        .filter_map(|statement| Some((statement.name.as_ref()?.to_string(), 0)))
        .collect();
    // A word that is not a name is an operation on the statement before.
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

/// The number of operations in a value that apply to the statement before.
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
