//! A scripted RTMP client of the simulated world, as patient or eager as it is told to be. Speaks by the tests' own RTMP.

use super::{ASIDE, Leave, SharedLog, Style, Talk};
use crate::rtmp::amf0::Value;
use crate::rtmp::command::{self, control};
use crate::rtmp::{Command, Wire};
use crate::sim::dice::Dice;
use crate::sim::peer::{End, Io, Peer};

/// What a client does before it publishes or plays, and how eagerly.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// `publish`, else `play`.
    pub publishes: bool,
    /// `app` and `tcUrl`.
    pub app: (String, String),
    /// The stream's name.
    pub name: String,
    /// Commands sent without waiting for the answers to those before.
    pub eager: Eager,
    /// Streams created; the last one is used.
    pub streams: u32,
    /// `releaseStream` and `FCPublish`, or `getStreamLength`, come first.
    pub ceremony: bool,
    /// Other calls come before `createStream` and after it; one that is patient waits for their answers.
    pub calls: bool,
    /// The publisher does not wait for `NetStream.Publish.Start`.
    pub blind: bool,
}

/// How many answers a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eager {
    /// All.
    Never,
    /// It creates its stream without waiting for `connect`'s answer, as librtmp does.
    Create,
    /// It waits for none, and takes the stream id to be what it mostly is.
    All,
}

impl ClientPlan {
    /// The plainest publisher.
    pub fn publisher() -> Self {
        Self {
            publishes: true,
            app: ("live".into(), "rtmp://example.com/live?token=t".into()),
            name: "s?token=t".into(),
            eager: Eager::Never,
            streams: 1,
            ceremony: true,
            calls: false,
            blind: false,
        }
    }

    /// Any publisher or player.
    pub fn random(dice: &mut Dice, publishes: bool) -> Self {
        Self {
            publishes,
            eager: *dice.pick(&[Eager::Never, Eager::Never, Eager::Create, Eager::All]),
            streams: *dice.pick(&[1, 1, 1, 1, 2]),
            ceremony: dice.chance(600),
            blind: publishes && dice.chance(300),
            ..Self::publisher()
        }
    }
}

/// A scripted client.
pub struct Client {
    talk: Talk,
    plan: ClientPlan,
    connecting: bool,
    created: u32,
    last_id: u32,
}

const CONNECT: f64 = 1.0;

/// The calls of a client that makes them: before `createStream`, and after it.
pub(super) const CALLS: [(&str, f64); 2] = [("_checkbw", 5.0), ("FCSubscribe", 6.0)];

const CREATE: f64 = 10.0;

impl Client {
    /// A client, and what will be seen of it.
    pub fn new(plan: ClientPlan, style: Style) -> (Self, SharedLog) {
        let (talk, log) = Talk::new(Wire::client(11), style);
        (Self { talk, plan, connecting: false, created: 0, last_id: 0 }, log)
    }

    fn connect(&mut self, io: &mut Io<'_>) {
        self.connecting = true;
        self.talk.moment(0);
        let (app, tc_url) = self.plan.app.clone();
        let extra = [("fourCcList".to_owned(), Value::StrictArray(vec![Value::string("hvc1")]))];
        let object = command::connect_object(&app, &tc_url, &extra);
        self.talk.log.borrow_mut().connect = Some(object.clone());
        let connect = command::connect(CONNECT, object);
        self.talk.command(&connect, self.talk.style.command_csid, 0);
        if self.plan.eager != Eager::Never {
            self.call(0);
            self.create(io);
        }
    }

    /// Makes a call; whether its answer is waited for.
    fn call(&mut self, n: usize) -> bool {
        let (name, transaction) = CALLS[n];
        if self.plan.calls {
            let call = Command::new(name, transaction, [Value::Null, Value::string(&self.plan.name)]);
            self.talk.command(&call, self.talk.style.command_csid, 0);
        }
        self.plan.calls && self.plan.eager == Eager::Never
    }

    fn create(&mut self, io: &mut Io<'_>) {
        let csid = self.talk.style.command_csid;
        if self.plan.ceremony && self.plan.publishes {
            self.talk.command(&command::release_stream(2.0, &self.plan.name), csid, 0);
            self.talk.command(&command::fc_publish(3.0, &self.plan.name), csid, 0);
        }
        for stream in 0..self.plan.streams {
            self.talk.command(&command::create_stream(CREATE + f64::from(stream)), csid, 0);
        }
        self.talk.moment(1);
        if self.plan.eager == Eager::All {
            self.call(1);
            self.start(io, self.plan.streams);
        }
    }

    fn start(&mut self, io: &mut Io<'_>, stream_id: u32) {
        {
            let mut log = self.talk.log.borrow_mut();
            log.stream_id = stream_id;
            log.name = Some(self.plan.name.clone());
            log.asked = Some(io.now);
        }
        let csid = self.talk.style.stream_csid;
        if self.plan.publishes {
            self.talk.command(&command::publish(20.0, &self.plan.name), csid, stream_id);
        } else {
            if self.plan.ceremony {
                let length = command::get_stream_length(19.0, &self.plan.name);
                self.talk.command(&length, self.talk.style.command_csid, 0);
            }
            self.talk.command(&command::play(20.0, &self.plan.name), csid, stream_id);
            self.talk.wire.send(&control::buffer_length(stream_id, 3000));
        }
        self.talk.moment(2);
        if self.plan.blind {
            self.talk.stream(io);
        }
    }

    fn answered(&mut self, io: &mut Io<'_>, command: Command) {
        match (&*command.name, command.transaction) {
            ("_result", CONNECT) if self.plan.eager == Eager::Never => {
                if !self.call(0) {
                    self.create(io);
                }
            }
            ("_result", CONNECT) => {}
            ("_result", transaction) if CALLS.iter().any(|(_, call)| *call == transaction) => {
                self.talk.log.borrow_mut().commands.push(command);
                match transaction == CALLS[0].1 {
                    _ if self.plan.eager != Eager::Never => {}
                    true => self.create(io),
                    false => self.start(io, self.last_id),
                }
            }
            ("_result", CREATE..20.0) => {
                self.created += 1;
                let id = command.arguments.first().and_then(Value::as_number).unwrap_or(0.0) as u32;
                self.last_id = id;
                if self.created == self.plan.streams && self.plan.eager != Eager::All && !self.call(1) {
                    self.start(io, id);
                }
            }
            ("onStatus", _) => {
                let [level, code, text] =
                    ["level", "code", "description"].map(|name| command.info(name).to_owned());
                let started = code.ends_with(".Start");
                self.talk.log.borrow_mut().statuses.push((level, code, text, io.now));
                if started {
                    self.talk.moment(3);
                    self.talk.stream(io);
                }
            }
            _ => self.talk.log.borrow_mut().commands.push(command),
        }
    }
}

impl Peer for Client {
    fn start(&mut self, io: &mut Io<'_>) {
        self.talk.write(io);
    }

    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        self.talk.feed(io, bytes);
        if self.talk.wire.is_established() && !self.connecting {
            self.connect(io);
        }
        while let Some(message) = self.talk.wire.next_message() {
            match Command::decode(&message) {
                Ok(Some(command)) if command.name == ASIDE => self.talk.take(message),
                Ok(Some(command)) => self.answered(io, command),
                Ok(None) => self.talk.take(message),
                Err(error) => return self.talk.fail(io, error),
            }
        }
        self.talk.write(io);
    }

    fn end(&mut self, io: &mut Io<'_>, end: End) {
        self.talk.log.borrow_mut().end = Some(end);
        self.talk.left = true;
        io.close();
    }

    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        if self.talk.timer(io, tag) && self.talk.style.leave != Leave::Never {
            if self.talk.style.leave == Leave::Politely {
                let (csid, id) = (self.talk.style.command_csid, self.talk.log.borrow().stream_id);
                self.talk.command(&command::fc_unpublish(30.0, &self.plan.name), csid, 0);
                self.talk.command(&command::delete_stream(31.0, id), csid, 0);
            }
            self.talk.write(io);
            self.talk.left = true;
            io.close();
        }
    }
}
