//! The film as files of HLS and DASH, made by ffmpeg without encoding anything, or sent to where they are served.

use super::PATIENCE;
use super::ffmpeg::ffmpeg;
use super::film::film;
use super::process::run;
use std::fs;
use std::path::Path;

/// Seconds in a fragment: the film has a key frame each second.
const FRAGMENT: &str = "2";

/// What makes HLS with MPEG-TS fragments.
const HLS: [&str; 6] = ["-f", "hls", "-hls_time", FRAGMENT, "-hls_playlist_type", "vod"];

/// Its files.
const HLS_FILES: [(&str, &str); 2] = [("-hls_segment_filename", "x-%d.ts"), ("", "x.m3u8")];

/// HLS with MPEG-TS fragments: `x.m3u8` and `x-0.ts`, ….
#[track_caller]
pub fn hls(folder: &Path) {
    make(folder, &HLS, &HLS_FILES);
}

/// The same, but each file is sent by a `PUT` to its place below a URL.
#[track_caller]
pub fn hls_sent_to(url: &str) {
    package(Path::new(url), &[&HLS[..], &["-method", "PUT"]].concat(), &HLS_FILES);
}

/// HLS with fragmented MP4: `x.m3u8`, `init.mp4` and `x-0.m4s`, ….
#[track_caller]
pub fn fragmented_mp4(folder: &Path) {
    let options =
        ["-f", "hls", "-hls_time", FRAGMENT, "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"];
    make(folder, &options, &[("-hls_segment_filename", "x-%d.m4s"), ("", "x.m3u8")]);
}

/// HLS with encrypted fragments: `x.m3u8`, `x.key` and `x-0.ts`, ….
#[track_caller]
pub fn encrypted(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder for files");
    fs::write(folder.join("x.key"), [7; 16]).expect("a key");
    let info = folder.join("key-info");
    fs::write(&info, format!("x.key\n{}\n", folder.join("x.key").display()))
        .expect("what ffmpeg asks of a key");
    let info = info.display().to_string();
    let options =
        ["-f", "hls", "-hls_time", FRAGMENT, "-hls_playlist_type", "vod", "-hls_key_info_file", &info];
    make(folder, &options, &[("-hls_segment_filename", "x-%d.ts"), ("", "x.m3u8")]);
}

/// HLS with a master playlist `x.m3u8` of three variants, two with video and one of audio alone, each in a folder of
/// its own: `v0/x.m3u8`, `v0/x-0.ts`, ….
#[track_caller]
pub fn variants(folder: &Path) {
    for variant in ["v0", "v1", "v2"] {
        fs::create_dir_all(folder.join(variant)).expect("a folder for files");
    }
    let options = [
        ["-map", "0:v", "-map", "0:a", "-map", "0:v", "-map", "0:a", "-map", "0:a"].as_slice(),
        &["-f", "hls", "-hls_time", FRAGMENT, "-hls_playlist_type", "vod", "-master_pl_name", "x.m3u8"],
        &["-var_stream_map", "v:0,a:0 v:1,a:1 a:2"],
    ];
    make(folder, &options.concat(), &[("-hls_segment_filename", "v%v/x-%d.ts"), ("", "v%v/x.m3u8")]);
}

/// DASH: the manifest `x.mpd`, which names its files by a template, `init-0.m4s` and `chunk-0-00001.m4s`, ….
#[track_caller]
pub fn dash(folder: &Path) {
    let options = [
        ["-f", "dash", "-seg_duration", FRAGMENT, "-use_template", "1", "-use_timeline", "1"].as_slice(),
        &["-init_seg_name", "init-$RepresentationID$.m4s"],
        &["-media_seg_name", "chunk-$RepresentationID$-$Number%05d$.m4s"],
    ];
    make(folder, &options.concat(), &[("", "x.mpd")]);
}

/// Runs ffmpeg on the film. Paths are relative to the folder; each follows its option, if it has one.
#[track_caller]
fn make(folder: &Path, options: &[&str], paths: &[(&str, &str)]) {
    fs::create_dir_all(folder).expect("a folder for files");
    package(folder, options, paths);
}

#[track_caller]
fn package(folder: &Path, options: &[&str], paths: &[(&str, &str)]) {
    let mut package = ffmpeg();
    package.args(["-y", "-i"]).arg(film());
    if !options.contains(&"-map") {
        package.args(["-map", "0"]);
    }
    package.args(["-c", "copy"]).args(options);
    for (option, path) in paths {
        if !option.is_empty() {
            package.arg(option);
        }
        package.arg(folder.join(path));
    }
    run("ffmpeg package", &mut package, PATIENCE).success();
}

/// The film as one FLV file, or sent by a `POST` to a URL.
#[track_caller]
pub fn flash_video(to: &str) {
    let mut package = ffmpeg();
    package.args(["-y", "-i"]).arg(film()).args(["-c", "copy", "-f", "flv"]);
    if to.starts_with("http://") {
        package.args(["-method", "POST"]);
    }
    run("ffmpeg to FLV", package.arg(to), PATIENCE).success();
}

/// The film as one MPEG-TS file.
#[track_caller]
pub fn transport_stream(path: &Path) {
    let mut package = ffmpeg();
    package.args(["-y", "-i"]).arg(film()).args(["-c", "copy", "-f", "mpegts"]).arg(path);
    run("ffmpeg to MPEG-TS", &mut package, PATIENCE).success();
}
