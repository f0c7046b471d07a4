//! Sockets, buffers, timers and workers for protocol machines, on mio. Knows no protocol.
//!
//! One thread per worker, nothing shared on the data path: each worker has its own listeners
//! (`SO_REUSEPORT`), tasks, timers and buffers. A *task* is a machine and its legs. Modules, from the outside in:
//!
//! ```text
//!   runtime   starts workers, drains and stops them
//!   worker    one event loop: accepting, events, timers, late answers
//!   task      one machine and its legs: reading, executing actions, closing
//!   tcp, udp  one leg: its socket and what waits to be sent
//!   batch     datagrams that were received at once, and what is to be sent of them
//!   file      one leg that is a file
//!   source    what connections and files have in common for whoever moves their bytes on
//!   outbox    bytes that the socket did not take yet, in memory or in a pipe
//!   alarm     what ends a worker's waiting
//!   pool      connections that wait for another session
//!   budget    descriptors that sessions may hold
//!   quota     sessions that one client network may have
//! ```

mod address;
mod alarm;
mod batch;
mod budget;
mod clock;
mod closing;
mod file;
mod listen;
mod outbox;
mod pool;
mod quota;
mod runtime;
mod source;
mod task;
mod tcp;
mod timers;
mod udp;
mod worker;

pub use clock::Clock;
pub use file::Files;
pub use listen::{HUB_BUFFER, bind_tcp, bind_udp, keep_networks_together, receive_buffer};
pub use pool::MAX_KEPT;
pub use runtime::{
    Accepted, BoxMachine, Class, Config, Ended, Listener, Lost, NewMachine, Observer, Runtime, SessionId,
};
