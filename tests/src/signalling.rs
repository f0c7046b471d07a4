//! WebRTC's signalling as clients read it, held against what the proxy made of it. Rewrites nothing itself.

use serde_json::Value;
use srs_proxy_core::rtc::envelope::{self, EnvelopeError};
use srs_proxy_core::rtc::sdp::{self, Candidates, MAX_SDP, SdpError};
use std::net::IpAddr;

/// The proxy's port for media.
pub const PORT: u16 = 18000;

/// A candidate as a client reads it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What candidates of one address share.
    pub foundation: String,
    /// The higher, the earlier it is tried.
    pub priority: u32,
    /// Where to.
    pub address: IpAddr,
}

/// The candidates of each media section, which all must be the proxy's. What is before the first section counts as one.
fn candidates(sdp: &str) -> Vec<Vec<Candidate>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        let Some(value) = line.strip_prefix("a=candidate:") else { continue };
        let words: Vec<_> = value.split(' ').collect();
        assert_eq!((words[1], words[6], words[7]), ("1", "typ", "host"), "{line}");
        assert_eq!((words[2].to_ascii_lowercase().as_str(), words[5]), ("udp", "18000"), "{line}");
        let candidate = Candidate {
            foundation: words[0].to_owned(),
            priority: words[3].parse().expect("a priority"),
            address: words[4].parse().expect("an address"),
        };
        sections.last_mut().expect("a section").push(candidate);
    }
    sections
}

/// Holds what became of any bytes against what must hold for all.
///
/// # Errors
/// Why they are refused.
pub fn check_sdp(original: &[u8], addresses: &[IpAddr]) -> Result<Vec<u8>, SdpError> {
    let to = Candidates { port: PORT, addresses };
    let rewritten = sdp::rewrite(original, &to)?;
    assert!(original.len() <= MAX_SDP);
    if rewritten.len() <= MAX_SDP {
        assert_eq!(sdp::rewrite(&rewritten, &to).as_ref(), Ok(&rewritten), "again");
        assert_eq!(sdp::ufrag(&rewritten), sdp::ufrag(original), "another user");
    }
    let is_kept = |line: &&[u8]| {
        ![&b"a=candidate:"[..], b"a=rtcp:", b"c=", b"m="].iter().any(|changed| line.starts_with(changed))
    };
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        lines.filter(is_kept).filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    };
    assert!(lines(original) == lines(&rewritten), "another line is changed");
    for section in candidates(&String::from_utf8_lossy(&rewritten)) {
        for (n, candidate) in section.iter().enumerate() {
            assert!(addresses.is_empty() || addresses.contains(&candidate.address), "{candidate:?}");
            let others = &section[..n];
            assert!(others.iter().all(|other| other.address != candidate.address), "twice: {candidate:?}");
            if !addresses.is_empty() {
                assert!(others.iter().all(|other| other.foundation != candidate.foundation), "{candidate:?}");
                assert!(others.iter().all(|other| other.priority >= candidate.priority), "{candidate:?}");
            }
        }
    }
    Ok(rewritten)
}

/// Holds what became of an envelope against what must hold for all. `None` if it refuses.
///
/// # Errors
/// Why it is not read.
pub fn check_envelope(original: &[u8], addresses: &[IpAddr]) -> Result<Option<Vec<u8>>, EnvelopeError> {
    let to = Candidates { port: PORT, addresses };
    let Some(answer) = envelope::answer(original, &to)? else { return Ok(None) };
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json);
    if let (Ok(mut before), Ok(after)) = (read(original), read(&answer.json)) {
        let (theirs, ours) = (&before["sdp"], &after["sdp"]);
        let (theirs, ours) = (theirs.as_str().expect("an sdp"), ours.as_str().expect("an sdp"));
        assert_eq!(check_sdp(theirs.as_bytes(), addresses), Ok(ours.as_bytes().to_vec()));
        assert_eq!(sdp::ufrag(ours.as_bytes()), Ok(&*answer.ufrag));
        before["sdp"] = after["sdp"].clone();
        assert_eq!(before, after, "another field is changed");
    }
    Ok(Some(answer.json))
}
