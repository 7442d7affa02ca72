//! The body of a message: `<route> <unix seconds with fraction>`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What tier1 says in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Signup {
    /// The route that was asked for, such as `fast`.
    pub route: String,
    /// When, as tier1's clock had it.
    pub at: SystemTime,
}

/// Why a body is none of ours. Static, so that no message can write into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No text.
    #[error("the body is not UTF-8")]
    Encoding,
    /// Too few words, or too many.
    #[error("the body is not a route and a time with one space between")]
    Parts,
    /// The second word is no time.
    #[error("the time is not unix seconds with a fraction")]
    Time,
}

impl Signup {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
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
