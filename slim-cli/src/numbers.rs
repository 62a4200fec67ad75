//! Numbers formatted for people.

pub use slim_runtime::__private::{grouped, percent, percent_asked};

/// Abbreviates a number: `20.0 M`.
pub fn short(number: i64) -> String {
    let value = number as f64;
    match number.unsigned_abs() {
        0..10_000 => grouped(number),
        10_000..1_000_000 => format!("{:.0} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}

/// Relative change: `−75.8 %`.
pub fn change(before: f64, after: f64) -> String {
    if before == 0. {
        return String::new();
    }
    let percent = 100. * (after - before) / before;
    let sign = if percent < 0. { "−" } else { "+" };
    // A change that rounds to zero has no sign.
    if percent.abs() < 0.05 { "±0 %".to_owned() } else { format!("{sign}{:.1} %", percent.abs()) }
}

/// Formats a score. Training with sparsity makes scores small, so these have an exponent.
pub fn score(value: f64) -> String {
    if value != 0. && (value.abs() < 1e-3 || value.abs() >= 1e6) {
        format!("{value:.2e}")
    } else {
        format!("{value:.4}")
    }
}

/// Formats a time: `8.3 s`, `120 ms`, `2 min 5 s`.
pub fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1. => format!("{:.0} ms", 1e3 * seconds),
        seconds if seconds < 60. => format!("{seconds:.1} s"),
        seconds if seconds < 3600. => {
            format!("{} min {} s", seconds as u64 / 60, seconds as u64 % 60)
        }
        seconds => format!("{} h {} min", seconds as u64 / 3600, seconds as u64 % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 20_035_018].map(grouped), ["0", "999", "1,000", "20,035,018"]);
        assert_eq!(
            [9_999, 72_452, 20_035_018, 3_600_000_000].map(short),
            ["9,999", "72 k", "20.0 M", "3.60 G"]
        );
        assert_eq!(change(200., 50.), "−75.0 %");
        assert_eq!(change(99.17, 99.72), "+0.6 %");
        assert_eq!((change(1000., 1000.1), change(0., 3.)), ("±0 %".to_owned(), String::new()));
        assert_eq!([0., 0.25, 9.641e-6].map(score), ["0.0000", "0.2500", "9.64e-6"]);
        assert_eq!(
            [0.12, 8.31, 125., 7500.].map(time),
            ["120 ms", "8.3 s", "2 min 5 s", "2 h 5 min"]
        );
    }
}
