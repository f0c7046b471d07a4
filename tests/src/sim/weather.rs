//! How a simulated network and the host behave: what the seed decides before the world begins. Moves nothing itself.

use super::dice::Dice;
use srs_proxy_core::time::Duration;

/// The properties of all links of a world, and of the driver that stands in it.
#[derive(Clone, Debug)]
pub struct Weather {
    /// The longest a TCP segment or datagram travels; each takes a random time up to it.
    pub delay: Duration,
    /// The most bytes of one TCP segment; each is of random size up to it.
    pub segment: usize,
    /// The bytes of a TCP direction, from its beginning, that travel in such segments; later ones are large.
    pub dribble: usize,
    /// Bytes a TCP direction holds, in flight and received but not read.
    pub window: usize,
    /// Stalls per thousand segments.
    pub stalls: u64,
    /// The longest a stall lasts.
    pub stall: Duration,
    /// Datagrams lost, and as many duplicated, per thousand.
    pub loss: u64,
    /// UDP sockets, per thousand, for which the host has no descriptor.
    pub exhausted: u64,
    /// The most bytes the driver reads at once; each read is of random size up to it.
    pub read: usize,
    /// Above this many queued bytes the legs that feed a leg are not read.
    pub high_water: usize,
    /// How late the driver's timers are at most.
    pub late: Duration,
    /// Whether the driver sees a broken connection while its leg is paused and nothing unread is left.
    pub sees_hangup_while_paused: bool,
    /// How long a closed leg may take to deliver what is queued and to see the peer's end.
    pub linger: Duration,
    /// How long the driver keeps a connection that nobody uses.
    pub keep: Duration,
}

impl Weather {
    /// Nothing is lost, late or cut.
    pub fn fair() -> Self {
        Self {
            delay: Duration::from_micros(100),
            segment: 64 * 1024,
            dribble: 0,
            window: 256 * 1024,
            stalls: 0,
            stall: Duration::ZERO,
            loss: 0,
            exhausted: 0,
            read: 64 * 1024,
            high_water: 256 * 1024,
            late: Duration::ZERO,
            sees_hangup_while_paused: false,
            linger: Duration::from_secs(5),
            keep: Duration::from_secs(30),
        }
    }

    /// What the seed sends.
    pub fn random(dice: &mut Dice) -> Self {
        let read = 1 << dice.size(9..=16);
        Self {
            delay: Duration::from_micros(dice.range(1..=40_000)),
            segment: *dice.pick(&[3, 20, 600, 1460, 9000, 65536]),
            dribble: *dice.pick(&[0, 2000, 8000]),
            window: 1 << dice.size(11..=18),
            stalls: *dice.pick(&[0, 0, 5, 50]),
            stall: Duration::from_millis(dice.range(1..=1500)),
            loss: *dice.pick(&[0, 10, 100, 300]),
            exhausted: *dice.pick(&[0, 20]),
            read,
            high_water: read.max(1 << dice.size(12..=18)),
            late: Duration::from_micros(*dice.pick(&[0, 1000, 10_000])),
            sees_hangup_while_paused: dice.chance(500),
            linger: Duration::from_secs(5),
            keep: Duration::from_secs(*dice.pick(&[0, 5, 60])),
        }
    }
}

/// What happens to a TCP direction after some bytes of it have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The connection breaks; what was not read is lost at random.
    Reset,
    /// The sender ends its direction in good order.
    End,
    /// Nothing arrives any more, and nobody is told.
    Freeze,
}
