//! The film that real publishers send: encoded once, then only copied.

use super::process::{command, run};
use super::{PATIENCE, cache_dir};
use std::fs::{self, File};
use std::path::PathBuf;

/// How long the film is, seconds. No packet's payload occurs twice in it.
pub const SECONDS: u32 = 30;

/// Part of the file's name: to be counted up when the encoding below changes.
const VERSION: u32 = 1;

/// The film's path: FLV, H.264 with B-frames (so dts and pts differ) and AAC, about 1.2 Mbit/s. A key frame
/// each second is longer than the largest chunk size in use, all other frames are short.
pub fn film() -> PathBuf {
    let dir = cache_dir();
    fs::create_dir_all(&dir).expect("the directory for peers");
    let path = dir.join(format!("film-{VERSION}.flv"));
    // One test makes it, the others wait.
    let lock = File::create(dir.join("film.lock")).expect("the film's lock file");
    lock.lock().expect("the film's lock");
    if path.exists() {
        return path;
    }
    let unfinished = dir.join("film-unfinished.flv");
    let mut encode = command("ffmpeg");
    encode
        .args(["-hide_banner", "-loglevel", "error", "-y", "-fflags", "+bitexact"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=480x270:rate=25"])
        .args(["-f", "lavfi", "-i", "anoisesrc=sample_rate=44100:amplitude=0.1:seed=7"])
        .args(["-t", &SECONDS.to_string(), "-vf", "noise=alls=24:allf=t:all_seed=7"])
        // Noise at a high quality makes the key frames long, the low quality of all others makes them short.
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25", "-qp", "40"])
        .args(["-x264-params", "qpmin=0:ipratio=8", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "aac", "-b:a", "64k", "-ac", "2"])
        .arg(&unfinished);
    run("ffmpeg encode", &mut encode, PATIENCE).success();
    fs::rename(&unfinished, &path).expect("the film gets its name");
    path
}
