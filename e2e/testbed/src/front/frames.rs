//! HTTP/2 frames and the gRPC messages in them, as far as a front needs them to break a snapshot off where it wants. Pure.

/// Length of a frame's head (RFC 9113, 4.1).
pub(super) const HEAD: usize = 9;
/// Length of a gRPC message's head: a flag and a length.
const MESSAGE_HEAD: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: usize,
    kind: u8,
    flags: u8,
    pub stream: u32,
}

impl FrameHead {
    pub fn parse(bytes: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub const fn is_data(self) -> bool {
        self.kind == DATA
    }

    pub const fn is_headers(self) -> bool {
        self.kind == HEADERS
    }
}

/// A frame of a stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = length.to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A DATA frame that does not end its stream.
pub(super) fn data_frame(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, payload)
}

/// A gRPC message without a single field: of a snapshot, a blob of no bytes.
pub(super) fn empty_message(stream: u32) -> Vec<u8> {
    data_frame(stream, &[0; MESSAGE_HEAD])
}

/// The trailers of a call that ended well, literal and not indexed (RFC 7541, 6.2.2), so that no table has to be known.
pub(super) fn good_end(stream: u32) -> Vec<u8> {
    let mut block = vec![0, 11];
    block.extend(b"grpc-status");
    block.extend([1, b'0']);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

/// Where gRPC messages end in the DATA of one stream.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Bytes of the stream so far.
    pub bytes: u64,
    head: Vec<u8>,
    left: usize,
}

impl Messages {
    /// Takes a payload; gives the first offset in it at which a message ends with at least `after` bytes passed in all.
    pub fn feed(&mut self, payload: &[u8], after: u64) -> Option<usize> {
        let mut found = None;
        for (offset, byte) in payload.iter().enumerate() {
            self.bytes += 1;
            if self.left > 0 {
                self.left -= 1;
            } else {
                self.head.push(*byte);
                if let [_, l0, l1, l2, l3] = self.head[..] {
                    self.left = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
                    self.head.clear();
                }
            }
            if self.left == 0 && self.head.is_empty() && self.bytes >= after {
                found = found.or(Some(offset + 1));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, length];
        bytes.extend(vec![7; length as usize]);
        bytes
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = data_frame(5, &[1, 2, 3]);
        let head = FrameHead::parse(bytes[..HEAD].try_into().unwrap());
        assert_eq!((head.length, head.stream, head.is_data()), (3, 5, true));
        assert_eq!(&bytes[HEAD..], [1, 2, 3]);
        assert!(FrameHead::parse(good_end(5)[..HEAD].try_into().unwrap()).is_headers());
    }

    #[test]
    fn the_end_of_a_message_is_found_across_frames() {
        let stream = [message(10), message(20)].concat();
        let mut whole = Messages::default();
        assert_eq!(whole.feed(&stream, 0), Some(15));
        let mut later = Messages::default();
        assert_eq!(later.feed(&stream, 16), Some(40));
        let mut pieces = Messages::default();
        assert_eq!(pieces.feed(&stream[..17], 16), None);
        assert_eq!(pieces.feed(&stream[17..], 16), Some(23));
        let mut empty = Messages::default();
        assert_eq!(empty.feed(&[0; 5], 1), Some(5));
    }
}
