//! `speculative_retry` and `additional_write_policy`: read in any spelling, kept in one.

use super::super::super::PlanError;

/// The policy as it is shown: `NEVER`, `ALWAYS`, `99p`, `50ms`, `MIN(99p,50ms)`, `MAX(99p,50ms)`.
pub(super) fn parse_retry(text: &str) -> Result<String, PlanError> {
    let upper = text.trim().to_ascii_uppercase();
    match upper.as_str() {
        "ALWAYS" => return Ok(upper),
        "NONE" | "NEVER" => return Ok("NEVER".to_owned()),
        _ => {}
    }
    for function in ["MIN", "MAX"] {
        let inside = upper.strip_prefix(function).and_then(|rest| {
            rest.trim_start().strip_prefix('(')?.strip_suffix(')')?.split_once(',')
        });
        if let Some((left, right)) = inside {
            let policies = (simple(left.trim(), text)?, simple(right.trim(), text)?);
            return match policies {
                (Simple::Percentile(p), Simple::Fixed(f))
                | (Simple::Fixed(f), Simple::Percentile(p)) => Ok(format!("{function}({p},{f})")),
                _ => Err(invalid(text)),
            };
        }
    }
    simple(&upper, text).map(|policy| match policy {
        Simple::Percentile(text) | Simple::Fixed(text) => text,
    })
}

enum Simple {
    Percentile(String),
    Fixed(String),
}

fn simple(upper: &str, text: &str) -> Result<Simple, PlanError> {
    let is_number = |n: &str| {
        n.starts_with(|c: char| c.is_ascii_digit())
            && n.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    };
    let number = |suffix: &str| {
        let digits = upper.strip_suffix(suffix)?.trim_end();
        is_number(digits).then(|| digits.parse::<f64>().ok()).flatten()
    };
    if let Some(percentile) = number("PERCENTILE").or_else(|| number("P")) {
        if percentile <= 0.0 || percentile >= 100.0 {
            return Err(PlanError::config(format!(
                "Invalid value {text} for PERCENTILE option 'speculative_retry': must be between \
                 (0.0 and 100.0)"
            )));
        }
        return Ok(Simple::Percentile(format!("{percentile}p")));
    }
    match number("MS") {
        Some(millis) if millis < f64::from(i32::MAX) => {
            Ok(Simple::Fixed(format!("{}ms", millis.trunc())))
        }
        _ => Err(invalid(text)),
    }
}

fn invalid(text: &str) -> PlanError {
    PlanError::config(format!("Invalid value {text} for option 'speculative_retry'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_comes_out_as_one() {
        for (written, kept) in [
            ("99percentile", "99p"),
            ("99.90PERCENTILE", "99.9p"),
            ("10.50MS", "10ms"),
            ("none", "NEVER"),
            ("Always", "ALWAYS"),
            ("max(1ms,99P)", "MAX(99p,1ms)"),
            ("MIN(50p, 20ms)", "MIN(50p,20ms)"),
        ] {
            assert_eq!(parse_retry(written).unwrap(), kept);
            assert_eq!(parse_retry(kept).unwrap(), kept);
        }
        for wrong in ["", "x", "p99", "101p", "0p", "MIN(1ms,2ms)", "MIN(1p,2p)", "1.2.3p", "-1ms"]
        {
            assert!(parse_retry(wrong).is_err(), "{wrong}");
        }
    }
}
