//! A hub that understands nothing: each client address has a socket of its own towards the one origin.

use bytes::Bytes;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Ticket, Transport};
use srs_proxy_core::origin::Protocol;
use srs_proxy_core::query::{Answer, Need, Query};
use srs_proxy_core::time::Time;
use std::collections::HashMap;
use std::net::SocketAddr;

/// A datagram by which a client takes its leave: it is passed on, then the flow is closed.
pub(crate) const BYE: &[u8] = b"bye";

struct Flow {
    client: SocketAddr,
    leg: Leg,
    open: bool,
    parked: Vec<Bytes>,
}

/// Flows by client and by slot; what comes before the way to the origin is there is parked.
#[derive(Default)]
pub(crate) struct Toy {
    origin: Option<SocketAddr>,
    slots: HashMap<SocketAddr, usize>,
    flows: Vec<Option<Flow>>,
    free: Vec<usize>,
    generation: u32,
}

impl Toy {
    /// A hub in front of `origin`; if that is not known, the load balancer is asked for each flow.
    pub(crate) fn new(origin: Option<SocketAddr>) -> Self {
        Self { origin, ..Self::default() }
    }

    fn flow(&mut self, cx: &mut Cx<'_>, client: SocketAddr) -> usize {
        if let Some(slot) = self.slots.get(&client) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(None);
            self.flows.len() - 1
        });
        self.generation += 1;
        let leg = Leg::new(slot as u32 + 1, self.generation);
        self.flows[slot] = Some(Flow { client, leg, open: false, parked: Vec::new() });
        self.slots.insert(client, slot);
        match self.origin {
            Some(to) => cx.actions.push(Action::Open { leg, to, transport: Transport::Udp }),
            None => {
                let key = StreamKey::new("__defaultVhost__", "live", "toy").unwrap();
                let query = Query::Pick { key, need: Need::to_play(Protocol::Rtc) };
                cx.actions.push(Action::Ask { ticket: Ticket(slot as u32), query });
            }
        }
        slot
    }

    fn close(&mut self, cx: &mut Cx<'_>, slot: usize) {
        if let Some(flow) = self.flows[slot].take() {
            cx.actions.close(flow.leg, Close::Flush);
            self.slots.remove(&flow.client);
            self.free.push(slot);
        }
    }
}

impl Machine for Toy {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Datagram { leg: Leg::CLIENT, from, bytes } => {
                assert_eq!(from.ip(), from.ip().to_canonical(), "an address has one form");
                let slot = self.flow(cx, from);
                let Some(flow) = &mut self.flows[slot] else { return Ok(0) };
                if flow.open {
                    cx.actions.push(Action::Forward { to: flow.leg, peer: None, range: 0..bytes.len() });
                } else {
                    flow.parked.push(Bytes::copy_from_slice(bytes));
                }
                if flow.open && bytes == BYE {
                    self.close(cx, slot);
                }
            }
            Input::Datagram { leg, bytes, .. } => {
                if let Some(flow) = &self.flows[leg.slot as usize - 1]
                    && flow.leg == leg
                {
                    let peer = Some(flow.client);
                    cx.actions.push(Action::Forward { to: Leg::CLIENT, peer, range: 0..bytes.len() });
                }
            }
            Input::Answer { ticket, answer: Answer::Picked(picked) } => {
                if let Some(flow) = &self.flows[ticket.0 as usize] {
                    let (leg, transport) = (flow.leg, Transport::Udp);
                    cx.actions.push(Action::Open { leg, to: picked.to, transport });
                }
            }
            Input::Opened { leg, .. } => {
                if let Some(flow) = &mut self.flows[leg.slot as usize - 1] {
                    flow.open = true;
                    for bytes in flow.parked.drain(..) {
                        cx.actions.write(leg, bytes);
                    }
                }
            }
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}
