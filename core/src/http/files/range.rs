//! The part of a file that a `Range` field asks for (RFC 9110 §14.1.2, §14.2). Knows no file.

use core::ops::Range;

/// One range of bytes, as asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ByteRange {
    /// `a-b`, both included.
    Between(u64, u64),
    /// `a-`
    From(u64),
    /// `-n`
    Last(u64),
}

/// What a range is of a file of some length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All of it, as if nothing had been asked.
    Whole,
    /// This part; never empty, never beyond the end.
    Some(Range<u64>),
    /// Nothing of it.
    None,
}

impl ByteRange {
    /// The range in the field's value. `None` for what may be, and is, ignored: other units, malformed
    /// ranges, and several at once, which no player asks for and attackers do.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (unit, set) = value.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut ranges = set.split(',').map(str::trim_ascii).filter(|range| !range.is_empty());
        let (range, None) = (ranges.next()?, ranges.next()) else { return None };
        match range.split_once('-')? {
            ("", count) => Some(Self::Last(number(count)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The part of a file of this length.
    pub(super) fn of(self, length: u64) -> Part {
        let part = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            // All of nothing can be asked for, but `Content-Range` cannot say it.
            Self::Last(1..) if length == 0 => return Part::Whole,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        if part.is_empty() { Part::None } else { Part::Some(part) }
    }
}

/// A number of digits only; one that is too large is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}
