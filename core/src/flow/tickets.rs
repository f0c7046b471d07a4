//! A hub's questions to the load balancer, and which sessions they are about. Knows no answer.

use crate::machine::{Action, Actions, Ticket};
use crate::query::Query;
use alloc::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Tickets {
    /// Those that are not answered, and the slots of their sessions.
    open: BTreeMap<Ticket, usize>,
    last: u32,
}

impl Tickets {
    /// Asks for the session in this slot.
    pub(crate) fn ask(&mut self, at: usize, query: Query, actions: &mut Actions) -> Ticket {
        self.last = self.last.wrapping_add(1);
        let ticket = Ticket(self.last);
        self.open.insert(ticket, at);
        actions.push(Action::Ask { ticket, query });
        ticket
    }

    /// There is an answer: for whom? `None` if nobody waits for it any more.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<usize> {
        self.open.remove(&ticket)
    }

    /// The answer is of no use any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.open.remove(&ticket);
    }

    /// What must always hold: these are open, of the sessions in these slots, and no others.
    pub(crate) fn invariants(
        &self,
        waiting: impl Iterator<Item = (Ticket, usize)>,
    ) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let mut asking = 0;
        for (ticket, at) in waiting {
            asking += 1;
            ensure(self.open.get(&ticket) == Some(&at), "a ticket leads elsewhere")?;
        }
        ensure(asking == self.open.len(), "a ticket leads nowhere")
    }
}
