//! The listener's SYN cookie (draft-sharabayko-srt-01 §4.3.1.1): who returns it receives at the address it sends from.
//! Nothing is kept for it.

use crate::flow::Keyed;
use crate::time::Time;
use core::net::SocketAddr;

/// A cookie is good for this time, and then once more as long, in seconds: longer than any program waits.
const PERIOD: u64 = 30;

/// The cookie of an address, now.
pub(super) fn cookie(keyed: Keyed, address: SocketAddr, now: Time) -> u32 {
    of_period(keyed, address, period(now))
}

/// Whether an address was given this cookie a moment ago.
pub(super) fn is_right(keyed: Keyed, address: SocketAddr, now: Time, cookie: u32) -> bool {
    let period = period(now);
    of_period(keyed, address, period) == cookie
        || period.checked_sub(1).is_some_and(|last| of_period(keyed, address, last) == cookie)
}

fn period(now: Time) -> u64 {
    now.as_micros() / (PERIOD * 1_000_000)
}

/// Never 0, which says that there is none.
fn of_period(keyed: Keyed, address: SocketAddr, period: u64) -> u32 {
    let [a, b, c, d, ..] = keyed.hash(&(address, period)).to_be_bytes();
    u32::from_be_bytes([a, b, c, d]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_cookie_is_right_for_its_address_and_for_a_while() {
        let (keyed, address) = (Keyed::new([0; 16]), SocketAddr::from(([10, 0, 0, 1], 5000)));
        let given = cookie(keyed, address, at(29));
        for (now, right) in [(0, true), (29, true), (30, true), (59, true), (60, false), (600, false)] {
            assert_eq!(is_right(keyed, address, at(now), given), right, "{now}");
        }
        for other in [([10, 0, 0, 1], 5001), ([10, 0, 0, 2], 5000)] {
            assert!(!is_right(keyed, other.into(), at(29), given));
        }
        assert!(!is_right(keyed, address, at(29), 0));
    }
}
