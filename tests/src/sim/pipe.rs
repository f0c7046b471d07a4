//! One direction of a TCP connection: bytes cut anew, delayed, stalled, held back by a window. No meaning.

use super::dice::Dice;
use super::weather::{Fate, Weather};
use bytes::{Bytes, BytesMut};
use srs_proxy_core::time::{Duration, Time};
use std::collections::VecDeque;

/// Where a direction's end stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    /// More may be sent.
    Open,
    /// The end is on its way, behind the bytes.
    Sent(Time),
    /// The receiver can see it, once it has read the bytes before it.
    Arrived,
}

/// One direction of a TCP connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    wire: VecDeque<(Time, Bytes)>,
    inbox: BytesMut,
    held: usize,
    fin: Fin,
    last: Time,
    sent: usize,
    arrived: u64,
    fate: Option<(u64, Fate)>,
    frozen: bool,
}

impl Pipe {
    pub(crate) fn new(fate: Option<(u64, Fate)>) -> Self {
        Self {
            wire: VecDeque::new(),
            inbox: BytesMut::new(),
            held: 0,
            fin: Fin::Open,
            last: Time::ZERO,
            sent: 0,
            arrived: 0,
            fate,
            frozen: false,
        }
    }

    /// How much the sender may send now.
    pub(crate) fn room(&self, weather: &Weather) -> usize {
        if self.fin == Fin::Open { weather.window.saturating_sub(self.held) } else { 0 }
    }

    /// Sends as much as there is room for; returns how much, and when the segments arrive.
    pub(crate) fn send(
        &mut self,
        now: Time,
        weather: &Weather,
        dice: &mut Dice,
        bytes: &[u8],
    ) -> (usize, Vec<Time>) {
        let taken = bytes.len().min(self.room(weather));
        let mut arrivals = Vec::new();
        let mut rest = Bytes::copy_from_slice(&bytes[..taken]);
        while !rest.is_empty() {
            let largest = if self.sent < weather.dribble { weather.segment } else { 64 * 1024 };
            let segment = rest.split_to(dice.any_size(largest).min(rest.len()));
            self.sent += segment.len();
            let at = self.arrival(now, weather, dice);
            self.wire.push_back((at, segment));
            arrivals.push(at);
        }
        self.held += taken;
        (taken, arrivals)
    }

    /// Ends the direction; returns when the end arrives.
    pub(crate) fn finish(&mut self, now: Time, weather: &Weather, dice: &mut Dice) -> Time {
        let at = self.arrival(now, weather, dice);
        if self.fin == Fin::Open {
            self.fin = Fin::Sent(at);
        }
        at
    }

    fn arrival(&mut self, now: Time, weather: &Weather, dice: &mut Dice) -> Time {
        let mut delay = dice.range(1..=weather.delay.as_micros().max(1) as u64);
        if dice.chance(weather.stalls) {
            delay += dice.range(0..=weather.stall.as_micros() as u64);
        }
        self.last = self.last.max(now + Duration::from_micros(delay));
        self.last
    }

    /// Lets everything arrive whose time has come. Returns a fate that is fulfilled now.
    pub(crate) fn arrive(&mut self, now: Time) -> Option<Fate> {
        if self.frozen {
            return None;
        }
        while let Some((_, mut bytes)) = self.wire.pop_front_if(|(at, _)| *at <= now) {
            let fate = self.fate.filter(|(after, _)| self.arrived + bytes.len() as u64 > *after);
            if let Some((after, _)) = fate {
                bytes.truncate((after - self.arrived) as usize);
            }
            self.arrived += bytes.len() as u64;
            self.inbox.extend_from_slice(&bytes);
            if let Some((_, fate)) = fate {
                self.fate = None;
                self.wire.clear();
                self.held = self.inbox.len();
                match fate {
                    Fate::Freeze => self.frozen = true,
                    Fate::End => self.fin = Fin::Arrived,
                    Fate::Reset => {}
                }
                return Some(fate);
            }
        }
        if matches!(self.fin, Fin::Sent(at) if at <= now) {
            self.fin = Fin::Arrived;
        }
        None
    }

    /// Takes up to `max` received bytes out.
    pub(crate) fn read(&mut self, max: usize) -> Bytes {
        let bytes = self.inbox.split_to(max.min(self.inbox.len())).freeze();
        self.held -= bytes.len();
        bytes
    }

    /// Received and not read yet.
    pub(crate) fn unread(&self) -> usize {
        self.inbox.len()
    }

    /// Whether the receiver has read all there will be.
    pub(crate) fn ended(&self) -> bool {
        self.fin == Fin::Arrived && self.inbox.is_empty()
    }

    /// Whether nothing more will be received, whatever is unread.
    pub(crate) fn hung_up(&self) -> bool {
        self.fin == Fin::Arrived
    }

    /// Whether the sender has ended it.
    pub(crate) fn finished(&self) -> bool {
        self.fin != Fin::Open
    }

    /// Breaks it: what is on the wire is lost, what was received stays if `keep`.
    pub(crate) fn break_off(&mut self, keep: bool) {
        self.wire.clear();
        if !keep {
            self.inbox.clear();
        }
        self.held = self.inbox.len();
        self.fin = Fin::Arrived;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_once_in_order_and_then_the_end() {
        for seed in 0..50 {
            let mut dice = Dice::new(seed);
            let weather = Weather::random(&mut dice);
            let bytes = dice.bytes(3000);
            let mut pipe = Pipe::new(None);
            let (mut sent, mut got, mut now) = (0, Vec::new(), Time::ZERO);
            while got.len() < bytes.len() {
                sent += pipe.send(now, &weather, &mut dice, &bytes[sent..]).0;
                assert!(pipe.held <= weather.window);
                now = now + Duration::from_millis(7);
                pipe.arrive(now);
                got.extend_from_slice(&pipe.read(dice.any_size(5000)));
            }
            assert_eq!(got, bytes);
            assert!(!pipe.ended());
            pipe.arrive(pipe.last);
            let end = pipe.finish(now, &weather, &mut dice);
            pipe.arrive(end);
            assert!(pipe.ended());
        }
    }

    #[test]
    fn a_fate_cuts_at_its_byte() {
        for fate in [Fate::Reset, Fate::End, Fate::Freeze] {
            let (weather, mut dice) = (Weather::fair(), Dice::new(1));
            let mut pipe = Pipe::new(Some((5, fate)));
            pipe.send(Time::ZERO, &weather, &mut dice, b"0123456789");
            assert_eq!(pipe.arrive(Time::from_micros(1_000_000)), Some(fate));
            assert_eq!(&pipe.read(100)[..], b"01234");
            assert_eq!(pipe.ended(), fate == Fate::End);
        }
    }
}
