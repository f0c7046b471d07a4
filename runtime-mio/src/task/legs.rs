//! The legs of one task, each in its slot. Moves no bytes.

use crate::file::FileLeg;
use crate::source::Source;
use crate::tcp::TcpLeg;
use crate::udp::UdpLeg;
use smallvec::SmallVec;
use srs_proxy_core::machine::Leg;

pub(super) enum Link {
    Tcp(TcpLeg),
    Udp(UdpLeg),
    File(FileLeg),
}

pub(super) struct Slot {
    pub(super) generation: u32,
    /// Tells its events from those of the socket that had this slot before.
    pub(super) stamp: u16,
    pub(super) link: Link,
}

#[derive(Default)]
pub(super) struct Legs {
    slots: SmallVec<[Option<Slot>; 2]>,
    live: usize,
    /// Those that are connections; a hub has none, and nothing to do for each of its legs.
    streams: usize,
}

impl Legs {
    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The numbers of all slots that there are or were.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.slots.len() as u32
    }

    pub(super) fn put(&mut self, leg: Leg, stamp: u16, link: Link) {
        let index = leg.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        debug_assert!(self.slots[index].is_none(), "the machine opened a slot that is in use");
        self.live += 1;
        self.streams += usize::from(matches!(link, Link::Tcp(_)));
        self.slots[index] = Some(Slot { generation: leg.generation, stamp, link });
    }

    pub(super) fn take(&mut self, leg: Leg) -> Option<Link> {
        let entry = self.slots.get_mut(leg.slot as usize)?;
        let slot = entry.take_if(|slot| slot.generation == leg.generation)?;
        self.live -= 1;
        self.streams -= usize::from(matches!(slot.link, Link::Tcp(_)));
        Some(slot.link)
    }

    /// Whatever is in a slot now.
    pub(super) fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    /// The leg that is in a slot now.
    pub(super) fn at(&mut self, number: u32) -> Option<Leg> {
        self.slot(number).map(|slot| Leg::new(number, slot.generation))
    }

    pub(super) fn get(&mut self, leg: Leg) -> Option<&mut Slot> {
        self.slot(leg.slot).filter(|slot| slot.generation == leg.generation)
    }

    pub(super) fn tcp(&mut self, leg: Leg) -> Option<&mut TcpLeg> {
        match &mut self.get(leg)?.link {
            Link::Tcp(tcp) => Some(tcp),
            Link::Udp(_) | Link::File(_) => None,
        }
    }

    /// Whether any is a connection.
    pub(super) const fn has_streams(&self) -> bool {
        self.streams > 0
    }

    /// Whether it connects two peers, whose silence is for the driver to notice.
    pub(super) const fn is_relay(&self) -> bool {
        self.streams > 1
    }

    /// The connections, with the numbers of their slots.
    pub(super) fn streams(&self) -> impl Iterator<Item = (usize, &TcpLeg)> {
        let slots = if self.streams == 0 { &[] } else { self.slots.as_slice() };
        slots.iter().enumerate().filter_map(|(number, slot)| match &slot.as_ref()?.link {
            Link::Tcp(tcp) => Some((number, tcp)),
            Link::Udp(_) | Link::File(_) => None,
        })
    }

    /// The same, to change them.
    pub(super) fn streams_mut(&mut self) -> impl Iterator<Item = &mut TcpLeg> {
        let slots = if self.streams == 0 { &mut [] } else { self.slots.as_mut_slice() };
        slots.iter_mut().filter_map(|slot| match &mut slot.as_mut()?.link {
            Link::Tcp(tcp) => Some(tcp),
            Link::Udp(_) | Link::File(_) => None,
        })
    }

    /// Where bytes come from and the connection they go to, if both are still there.
    pub(super) fn pair(&mut self, from: Leg, to: Leg) -> Option<(&mut dyn Source, &mut TcpLeg)> {
        let pair = self.slots.get_disjoint_mut([from.slot as usize, to.slot as usize]);
        let Ok([Some(source), Some(Slot { generation, link: Link::Tcp(target), .. })]) = pair else {
            return None;
        };
        if source.generation != from.generation || *generation != to.generation {
            return None;
        }
        match &mut source.link {
            Link::Tcp(tcp) => Some((tcp, target)),
            Link::File(file) => Some((file, target)),
            Link::Udp(_) => None,
        }
    }
}
