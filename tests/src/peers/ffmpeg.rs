//! ffmpeg and ffprobe: the ordinary publisher and player.

use super::PATIENCE;
use super::film::film;
use super::packets::{self, Packet};
use super::process::{Ended, Pipe, Process, command};
use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

/// An ffmpeg that publishes the film in real time, over and over.
#[derive(Debug)]
pub struct Publisher {
    process: Process,
}

impl Publisher {
    /// Starts publishing to `url` and waits until media flows.
    #[track_caller]
    pub fn start(url: &str) -> Self {
        let mut publisher = Self::try_start(url);
        publisher.wait_flowing();
        publisher
    }

    /// Starts publishing to `url`; what becomes of it is not waited for.
    #[track_caller]
    pub fn try_start(url: &str) -> Self {
        Self::with(&[], url)
    }

    /// Starts publishing by an HTTP request with an endless body, and waits until media flows.
    #[track_caller]
    pub fn start_post(url: &str) -> Self {
        let mut publisher = Self::with(&["-method", "POST"], url);
        publisher.wait_flowing();
        publisher
    }

    #[track_caller]
    fn with(options: &[&str], url: &str) -> Self {
        let mut publish = ffmpeg();
        // -progress writes a block of lines as soon as the first packets are sent, then two each second.
        publish.args(["-progress", "pipe:1", "-stats_period", "0.2", "-re", "-stream_loop", "-1", "-i"]);
        let format = if url.starts_with("srt://") { "mpegts" } else { "flv" };
        publish.arg(film()).args(["-c", "copy", "-f", format]).args(options).arg(url);
        Self { process: Process::start(format!("publish {url}"), &mut publish) }
    }

    /// Waits until media flows.
    #[track_caller]
    pub fn wait_flowing(&mut self) {
        self.process.wait_line("progress=continue", PATIENCE);
    }

    /// Ends it as a crash would: without a word.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// How many frames it has sent.
    pub fn frames(&self) -> u64 {
        frames(&self.process.text(Pipe::Out))
    }

    /// Whether it still publishes.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_end(mut self, deadline: Duration) -> Ended {
        self.process.wait_end(deadline)
    }
}

/// Receives `count` packets of `url` and gives them as the demuxer saw them.
#[track_caller]
pub fn packets(url: &str, count: usize) -> Vec<Packet> {
    PacketPlayer::start(url, count).finish()
}

/// All packets of a file, or of whatever has an end.
#[track_caller]
pub fn file_packets(source: &(impl AsRef<OsStr> + ?Sized)) -> Vec<Packet> {
    let ended = Process::start("ffprobe file", ffprobe_packets().arg(source)).wait_end(PATIENCE).success();
    packets::parse(&ended.stdout)
}

/// An ffprobe that receives a number of packets, then ends.
#[derive(Debug)]
pub struct PacketPlayer {
    process: Process,
    count: usize,
}

impl PacketPlayer {
    /// Starts receiving.
    #[track_caller]
    pub fn start(url: &str, count: usize) -> Self {
        let mut play = ffprobe_packets();
        play.arg("-read_intervals").arg(format!("%+#{count}")).arg(url);
        Self { process: Process::start(format!("packets {url}"), &mut play), count }
    }

    /// Waits for all packets.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Packet> {
        let ended = self.process.wait_end(PATIENCE).success();
        let packets = packets::parse(&ended.stdout);
        assert!(packets.len() >= self.count, "{} of {} packets\n{}", packets.len(), self.count, ended.stderr);
        packets
    }
}

/// The codecs a player finds in `url`, sorted; it has then received packets of each.
#[track_caller]
pub fn codecs(url: &str) -> Vec<String> {
    let mut probe = ffprobe();
    probe.args(["-show_entries", "stream=codec_name", "-of", "csv=p=0", url]);
    let ended = Process::start(format!("probe {url}"), &mut probe).wait_end(PATIENCE).success();
    let mut codecs: Vec<_> = ended.stdout.split_whitespace().map(str::to_owned).collect();
    codecs.sort();
    // Streams of a program, as MPEG-TS has it, are listed twice.
    codecs.dedup();
    codecs
}

/// The last count of frames in what ffmpeg's `-progress` wrote.
pub fn frames(progress: &str) -> u64 {
    let last = progress.lines().rev().find_map(|line| line.strip_prefix("frame="));
    last.and_then(|frames| frames.trim().parse().ok()).unwrap_or(0)
}

/// Starts an ffmpeg that decodes `url` until it ends, and waits until frames come out.
#[track_caller]
pub fn decode(url: &str) -> Process {
    let mut play = ffmpeg();
    play.args(["-progress", "pipe:1", "-stats_period", "0.2", "-i", url, "-f", "null", "-"]);
    let mut process = Process::start(format!("decode {url}"), &mut play);
    process.wait_line("progress=continue", PATIENCE);
    process
}

/// Decodes `seconds` of `url`, or whatever comes before it fails.
#[track_caller]
pub fn decode_for(url: &str, seconds: u32, deadline: Duration) -> Ended {
    let mut play = ffmpeg();
    play.args(["-progress", "pipe:1", "-i", url, "-t", &seconds.to_string(), "-f", "null", "-"]);
    Process::start(format!("decode {url}"), &mut play).wait_end(deadline)
}

pub(super) fn ffmpeg() -> Command {
    let mut command = command("ffmpeg");
    command.args(["-hide_banner", "-nostats", "-loglevel", "warning"]);
    command
}

fn ffprobe() -> Command {
    let mut command = command("ffprobe");
    command.args(["-hide_banner", "-loglevel", "warning"]);
    command
}

fn ffprobe_packets() -> Command {
    let mut command = ffprobe();
    command.args(["-show_packets", "-show_data_hash", "md5", "-of", "csv=p=0"]);
    command.args(["-show_entries", "packet=codec_type,pts,dts,size,flags,data_hash"]);
    command
}
