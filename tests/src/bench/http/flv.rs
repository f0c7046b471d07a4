//! Media messages as FLV tags (Adobe FLV 10.1, Annex E), as HTTP-FLV carries them. No I/O.

use crate::bench::media::{HEAD, Head, Payloads, timestamp};

/// What an FLV file begins with: signature, version, video only, length of the header; then no previous tag.
pub const FILE_HEADER: [u8; 13] = *b"FLV\x01\x01\0\0\0\x09\0\0\0\0";

const TAG_HEADER: usize = 11;
const TAG_TRAILER: usize = 4;
const VIDEO: u8 = 9;

/// Adds a stream's message number `sequence` to `out`, as a tag; as a chunk of its own if it is to be `chunked`.
pub fn write(payloads: &Payloads, head: Head, chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        let size = TAG_HEADER + payloads.size() + TAG_TRAILER;
        out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
    }
    out.extend_from_slice(&header(payloads.size(), head.sequence));
    out.extend_from_slice(&head.bytes());
    out.extend_from_slice(payloads.body(head.sequence));
    out.extend_from_slice(&trailer(payloads.size()));
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}

fn header(size: usize, sequence: u64) -> [u8; TAG_HEADER] {
    let [_, size @ ..] = (size as u32).to_be_bytes();
    let [high, low @ ..] = timestamp(sequence).to_be_bytes();
    let mut header = [0; TAG_HEADER];
    header[0] = VIDEO;
    header[1..4].copy_from_slice(&size);
    header[4..7].copy_from_slice(&low);
    header[7] = high;
    header
}

fn trailer(size: usize) -> [u8; TAG_TRAILER] {
    ((TAG_HEADER + size) as u32).to_be_bytes()
}

/// Reads a stream's tags and compares every byte with what it must be.
#[derive(Clone, Debug)]
pub struct Reader {
    stream: u64,
    /// Messages that have come.
    count: u64,
    /// When the message that is coming was sent.
    sent: u64,
    place: Place,
    /// The beginning of something that is looked at whole.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    FileHeader,
    /// The tag's header and the payload's head.
    Head,
    /// The payload's body, from here on.
    Body(usize),
    Trailer,
}

impl Reader {
    /// For a stream from its first message.
    pub fn new(stream: u64) -> Self {
        Self { stream, count: 0, sent: 0, place: Place::FileHeader, held: Vec::new() }
    }

    /// Whether the file's header has come.
    pub fn started(&self) -> bool {
        !matches!(self.place, Place::FileHeader)
    }

    /// Messages that have come.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes what came; tells `arrived` of each message that is there whole when it was sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn feed(
        &mut self,
        payloads: &Payloads,
        mut bytes: &[u8],
        mut arrived: impl FnMut(u64),
    ) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            match self.place {
                Place::FileHeader => {
                    if self.hold(&mut bytes, FILE_HEADER.len()) {
                        self.check(&FILE_HEADER, "no FLV header")?;
                        self.place = Place::Head;
                    }
                }
                Place::Head => {
                    if self.hold(&mut bytes, TAG_HEADER + HEAD) {
                        let head = self.held[TAG_HEADER..].first_chunk().ok_or("no head")?;
                        self.sent = Head::read(head)?.verify(self.stream, self.count)?;
                        self.held.truncate(TAG_HEADER);
                        self.check(
                            &header(payloads.size(), self.count),
                            "another type, length or timestamp",
                        )?;
                        self.place = Place::Body(0);
                    }
                }
                Place::Body(from) => {
                    let body = &payloads.body(self.count)[from..];
                    let (now, rest) = bytes.split_at(bytes.len().min(body.len()));
                    if *now != body[..now.len()] {
                        return Err("damaged");
                    }
                    bytes = rest;
                    self.place =
                        if now.len() == body.len() { Place::Trailer } else { Place::Body(from + now.len()) };
                }
                Place::Trailer => {
                    if self.hold(&mut bytes, TAG_TRAILER) {
                        self.check(&trailer(payloads.size()), "another tag length")?;
                        self.count += 1;
                        self.place = Place::Head;
                        arrived(self.sent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes bytes until `length` are held; whether they are.
    fn hold(&mut self, bytes: &mut &[u8], length: usize) -> bool {
        let (now, rest) = bytes.split_at(bytes.len().min(length - self.held.len()));
        self.held.extend_from_slice(now);
        *bytes = rest;
        self.held.len() == length
    }

    fn check(&mut self, expected: &[u8], otherwise: &'static str) -> Result<(), &'static str> {
        let same = self.held == expected;
        self.held.clear();
        if same { Ok(()) } else { Err(otherwise) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(payloads: &Payloads, count: u64) -> Vec<u8> {
        let mut bytes = FILE_HEADER.to_vec();
        for sequence in 0..count {
            write(payloads, Head { stream: 9, sequence, sent: sequence * 7 }, false, &mut bytes);
        }
        bytes
    }

    fn read(payloads: &Payloads, bytes: &[u8], step: usize) -> Result<Vec<u64>, &'static str> {
        let (mut reader, mut seen) = (Reader::new(9), Vec::new());
        bytes.chunks(step).try_for_each(|part| reader.feed(payloads, part, |sent| seen.push(sent)))?;
        assert_eq!(seen.len() as u64, reader.count());
        Ok(seen)
    }

    #[test]
    fn tags_are_read_however_they_are_cut() {
        for size in [32, 100, 16_384] {
            let payloads = Payloads::new(size);
            let bytes = stream(&payloads, 5);
            for step in [1, 2, 13, 43, 1000, bytes.len()] {
                assert_eq!(read(&payloads, &bytes, step), Ok(vec![0, 7, 14, 21, 28]));
            }
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_seen() {
        let payloads = Payloads::new(64);
        let bytes = stream(&payloads, 2);
        for place in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            assert!(read(&payloads, &bytes, bytes.len()).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_lost_tag_is_seen() {
        let payloads = Payloads::new(64);
        let mut bytes = stream(&payloads, 3);
        let tag = TAG_HEADER + 64 + TAG_TRAILER;
        bytes.drain(FILE_HEADER.len() + tag..FILE_HEADER.len() + 2 * tag);
        assert!(read(&payloads, &bytes, 1000).is_err());
    }
}
