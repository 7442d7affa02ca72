//! The body of a message: `<route> <unix seconds with fraction>`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What tier1 says in a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Signup {
    /// The route that was asked for, such as `fast`.
    pub(crate) route: String,
    /// When, as tier1's clock had it.
    pub(crate) at: SystemTime,
}

/// Why a body is none of ours. Static, so that no message can write into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the body is not UTF-8")]
    Encoding,
    #[error("the body is not a route and a time with one space between")]
    Parts,
    #[error("the time is not unix seconds with a fraction")]
    Time,
}

impl Signup {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let body = str::from_utf8(body).map_err(|_| Malformed::Encoding)?;
        let (route, time) = body.split_once(' ').ok_or(Malformed::Parts)?;
        if route.is_empty() || time.is_empty() || body.matches(char::is_whitespace).count() != 1 {
            return Err(Malformed::Parts);
        }
        Ok(Self {
            route: route.to_owned(),
            at: unix_seconds(time).ok_or(Malformed::Time)?,
        })
    }
}

/// Digits, a point, digits: `f64`'s own parser would take `inf` and `1e300`, too.
fn unix_seconds(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.')?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let seconds = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    UNIX_EPOCH.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_and_a_time() {
        let signup = Signup::parse(b"fast 1732537000.25").expect("well-formed");
        assert_eq!(signup.route, "fast");
        assert_eq!(
            signup.at,
            UNIX_EPOCH + Duration::from_millis(1_732_537_000_250)
        );
    }

    #[test]
    fn anything_else_is_malformed() {
        let cases: [(&[u8], Malformed); 12] = [
            (b"", Malformed::Parts),
            (b"fast", Malformed::Parts),
            (b" 1.0", Malformed::Parts),
            (b"fast ", Malformed::Parts),
            (b"fast 1.0 2", Malformed::Parts),
            (b"fast 1.0\n", Malformed::Parts),
            (b"fast soon", Malformed::Time),
            (b"fast 1732537000", Malformed::Time),
            (b"fast -1.5", Malformed::Time),
            (b"fast inf.0", Malformed::Time),
            (b"fast 99999999999999999999999999.0", Malformed::Time),
            (b"fast \xff", Malformed::Encoding),
        ];
        for (body, reason) in cases {
            let body_text = String::from_utf8_lossy(body);
            assert_eq!(Signup::parse(body), Err(reason), "{body_text:?}");
        }
    }
}
