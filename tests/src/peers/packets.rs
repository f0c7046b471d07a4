//! Media packets as a player receives them, and whether two players received the same.

use std::collections::BTreeMap;

/// One packet, as the demuxer hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// `video` or `audio`.
    pub kind: String,
    /// Decoding time, ms.
    pub dts: i64,
    /// Presentation time, ms.
    pub pts: i64,
    /// Payload bytes.
    pub size: usize,
    /// Hash of the payload.
    pub hash: String,
}

/// What two players' packets have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// Packets that both received and that are the same.
    pub packets: usize,
    /// How much larger the second player's timestamps are, ms; the same for every packet.
    pub shift: i64,
}

/// Reads `ffprobe -show_packets -of csv=p=0` with the entries kind, pts, dts, size, flags and hash.
pub fn parse(csv: &str) -> Vec<Packet> {
    // Side data, as packets of MPEG-TS have it, ends a line in the middle of a packet.
    csv.replace("\n,", ",").lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Packet> {
    let mut fields = line.split(',');
    let kind = fields.next()?.to_owned();
    let pts = fields.next()?.parse().ok()?;
    let dts = fields.next()?.parse().ok()?;
    let size = fields.next()?.parse().ok()?;
    let hash = fields.find(|field| field.contains(':'))?.to_owned();
    Some(Packet { kind, dts, pts, size, hash })
}

/// Compares what two players received of one stream. They may begin and end at different moments; between,
/// each packet of one must be the other's, in the same order, with the same payload, and with timestamps
/// that differ by one constant.
///
/// # Errors
/// What differs first, or that they share no packet.
pub fn compare(first: &[Packet], second: &[Packet]) -> Result<Overlap, String> {
    let (at, from) = first
        .iter()
        .enumerate()
        .find_map(|(at, packet)| Some((at, second.iter().position(|other| other.hash == packet.hash)?)))
        .ok_or_else(|| format!("no packet in common, of {} and {}", first.len(), second.len()))?;
    let shift = second[from].dts - first[at].dts;
    let mut packets = 0;
    // Audio and video are compared each for itself: a player's demuxer may order packets of equal time as
    // it likes.
    let mut others = by_kind(second);
    for (kind, ours) in by_kind(first) {
        let theirs = others.remove(kind).ok_or_else(|| format!("the second player has no {kind}"))?;
        let (start, end) = common(&ours, &theirs, shift)
            .ok_or_else(|| format!("the two players' {kind} packets do not overlap"))?;
        let within = |packet: &&&Packet, shift: i64| (start..=end).contains(&(packet.dts - shift));
        let ours: Vec<_> = ours.iter().filter(|packet| within(packet, 0)).collect();
        let theirs: Vec<_> = theirs.iter().filter(|packet| within(packet, shift)).collect();
        for (one, other) in ours.iter().zip(&theirs) {
            let moved = Packet { dts: one.dts + shift, pts: one.pts + shift, ..(**one).clone() };
            if moved != ***other {
                return Err(format!(
                    "{kind} packet {packets} differs:\n  {one:?}\n  {other:?}\n  shift {shift}"
                ));
            }
            packets += 1;
        }
        if ours.len() != theirs.len() {
            return Err(format!("{kind}: {} packets and {} in the same time", ours.len(), theirs.len()));
        }
    }
    match others.keys().next() {
        Some(kind) => Err(format!("the first player has no {kind}")),
        None => Ok(Overlap { packets, shift }),
    }
}

/// First and last dts, in the first player's time, of what both received.
fn common(ours: &[&Packet], theirs: &[&Packet], shift: i64) -> Option<(i64, i64)> {
    let start = ours.first()?.dts.max(theirs.first()?.dts - shift);
    let end = ours.last()?.dts.min(theirs.last()?.dts - shift);
    (start <= end).then_some((start, end))
}

fn by_kind(packets: &[Packet]) -> BTreeMap<&str, Vec<&Packet>> {
    let mut kinds: BTreeMap<&str, Vec<&Packet>> = BTreeMap::new();
    for packet in packets {
        kinds.entry(&packet.kind).or_default().push(packet);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<Packet> {
        let csv: String = (0..100)
            .map(|n| {
                let (video, audio) = (n * 40, n * 40 + 7);
                format!(
                    "video,{},{video},900,K_,MD5:v{n}\naudio,{audio},{audio},90,K_,MD5:a{n}\n",
                    video + 80
                )
            })
            .collect();
        parse(&csv)
    }

    #[test]
    fn players_that_begin_and_end_differently_share_the_middle() {
        let all = stream();
        assert_eq!(compare(&all[..150], &all[50..]), Ok(Overlap { packets: 100, shift: 0 }));
    }

    #[test]
    fn a_constant_shift_is_no_difference() {
        let all = stream();
        let mut later = all.clone();
        for packet in &mut later {
            packet.dts += 1000;
            packet.pts += 1000;
        }
        assert_eq!(compare(&all, &later), Ok(Overlap { packets: 200, shift: 1000 }));
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        let all = stream();
        type Damage = fn(&mut Vec<Packet>);
        let damage: [(&str, Damage); 6] = [
            ("lost", |all| drop(all.remove(90))),
            ("doubled", |all| all.insert(90, all[90].clone())),
            ("reordered", |all| all.swap(90, 92)),
            ("payload", |all| all[90].hash.push('x')),
            ("dts", |all| all[90].dts += 1),
            ("pts", |all| all[90].pts += 1),
        ];
        for (what, damage) in damage {
            let mut damaged = all.clone();
            damage(&mut damaged);
            assert!(compare(&all, &damaged).is_err(), "{what}");
            assert!(compare(&damaged, &all).is_err(), "{what}, the other way round");
        }
    }

    #[test]
    fn a_missing_kind_is_seen() {
        let all = stream();
        let video: Vec<_> = all.iter().filter(|packet| packet.kind == "video").cloned().collect();
        assert!(compare(&all, &video).is_err());
        assert!(compare(&video, &all).is_err());
    }

    #[test]
    fn other_streams_share_nothing() {
        let all = stream();
        assert!(compare(&all[..80], &all[90..]).is_err());
    }
}
