//! The file: its pieces read and written, and judged.

use std::io::{self, Read, Write};
use std::ops::Range;

use parity_scale_codec::{Compact, Decode, DecodeAll, Encode};
use rustorium_verkle::{KeyPath, Leaf, ValueHash};

use super::{BulkError, Origin};
use crate::block::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

const MAGIC: &[u8; 16] = b"rustorium pairs\n";
const VERSION: u32 = 1;
const CONTEXT: &str = "rustorium.v1 pairs";
/// Bytes of an encoded [`Origin`].
const ORIGIN_BYTES_MAX: usize = 4096;
/// A frame is full with so many bytes, before zipping, or so many pairs.
pub const FRAME_BYTES: usize = 4 << 20;
const FRAME_PAIRS: u32 = 16_384;
/// What one pair may add to a frame that is almost full.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 16;
/// What does not get smaller gets a little larger.
const ZIPPED_BYTES_MAX: usize = FRAME_BYTES_MAX + FRAME_BYTES_MAX / 128 + 1024;
/// How hard it is zipped: keys and hashes do not get much smaller, whatever the effort.
const LEVEL: i32 = 1;

const FRAME: u8 = b'F';
const END: u8 = b'E';

/// A sum over a piece.
pub(super) type Sum = [u8; 32];

/// How far a file is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Place {
    /// Bytes of the file.
    pub(super) offset: u64,
    pub(super) frames: u64,
    pub(super) pairs: u64,
    /// Bytes before zipping.
    pub(super) bytes: u64,
}

/// Pairs that come together; their paths ascend.
pub(super) struct Frame {
    bytes: Vec<u8>,
    pub(super) pairs: Vec<Pair>,
    /// Where the file goes on.
    pub(super) next: Place,
}

/// A leaf, and where its key and value are.
pub(super) struct Pair {
    pub(super) leaf: Leaf,
    key: Range<usize>,
    value: Range<usize>,
}

impl Frame {
    pub(super) fn key(&self, pair: &Pair) -> &[u8] {
        &self.bytes[pair.key.clone()]
    }

    pub(super) fn value(&self, pair: &Pair) -> &[u8] {
        &self.bytes[pair.value.clone()]
    }
}

/// The head's bytes and its sum.
pub(super) fn head(origin: &Origin) -> (Vec<u8>, Sum) {
    let encoded = origin.encode();
    let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &(encoded.len() as u32).to_le_bytes(), &encoded].concat();
    let sum = sum(&[&bytes]);
    bytes.extend_from_slice(&sum);
    (bytes, sum)
}

fn sum(parts: &[&[u8]]) -> Sum {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}

/// Reads a file from its beginning to its end, or from a place that it was at before.
pub(super) struct Pieces<R> {
    file: R,
    pub(super) origin: Origin,
    pub(super) head: Sum,
    pub(super) place: Place,
    /// The path before the next pair's.
    pub(super) last: Option<KeyPath>,
}

impl<R: Read> Pieces<R> {
    /// Reads the head.
    pub(super) fn open(mut file: R) -> Result<Self, BulkError> {
        let mut start = [0; 24];
        read(&mut file, &mut start[..16], 0)?;
        if start[..16] != MAGIC[..] {
            return Err(BulkError::NotOurs);
        }
        read(&mut file, &mut start[16..], 0)?;
        let version = u32::from_le_bytes(start[16..20].try_into().expect("four bytes"));
        if version != VERSION {
            return Err(BulkError::Newer { found: version, supported: VERSION });
        }
        let len = u32::from_le_bytes(start[20..].try_into().expect("four bytes")) as usize;
        let damaged = |what: &str| BulkError::Damaged { offset: 0, what: what.to_owned() };
        if len > ORIGIN_BYTES_MAX {
            return Err(damaged("a head that is too long"));
        }
        let mut rest = vec![0; len + size_of::<Sum>()];
        read(&mut file, &mut rest, 0)?;
        let (encoded, found) = rest.split_at(len);
        let head = sum(&[&start, encoded]);
        if found != head {
            return Err(damaged("the head's sum is not that of its bytes"));
        }
        let origin = Origin::decode_all(&mut &encoded[..]).map_err(|_| damaged("a head that does not decode"))?;
        let place = Place { offset: (start.len() + rest.len()) as u64, ..Place::default() };
        Ok(Self { file, origin, head, place, last: None })
    }

    /// The same, with the file at this place.
    pub(super) fn over(self, file: R) -> Self {
        Self { file, ..self }
    }

    /// The next frame; none at the end, which is the file's.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, BulkError> {
        let Place { offset, frames, .. } = self.place;
        let damaged = |what: &str| BulkError::Damaged { offset, what: what.to_owned() };
        let mut letter = [0];
        read(&mut self.file, &mut letter, offset)?;
        match letter[0] {
            FRAME => {}
            END => return self.end().map(|()| None),
            _ => return Err(damaged("neither a frame nor the end")),
        }
        let mut sizes = [0; 12];
        read(&mut self.file, &mut sizes, offset)?;
        let [pairs, len, zipped_len] =
            [0, 4, 8].map(|at| u32::from_le_bytes(sizes[at..at + 4].try_into().expect("four bytes")));
        // Nothing is made room for on a stranger's word alone.
        if pairs == 0 || pairs > FRAME_PAIRS || len as usize > FRAME_BYTES_MAX || zipped_len as usize > ZIPPED_BYTES_MAX
        {
            return Err(damaged("a frame that is larger than frames are"));
        }
        let mut zipped = vec![0; zipped_len as usize + size_of::<Sum>()];
        read(&mut self.file, &mut zipped, offset)?;
        let (zipped, found) = zipped.split_at(zipped_len as usize);
        if found != sum(&[&self.head, &frames.to_le_bytes(), &letter, &sizes, zipped]) {
            return Err(damaged("the frame's sum is not that of its bytes"));
        }
        let mut bytes = vec![0; len as usize];
        if zstd_safe::decompress(&mut bytes[..], zipped) != Ok(bytes.len()) {
            return Err(damaged("a frame that does not unzip"));
        }
        let found = pairs_of(&bytes, pairs, self.last).map_err(|what| damaged(&what))?;
        self.last = found.last().map(|pair| pair.leaf.path);
        self.place.offset += (1 + sizes.len() + zipped.len() + size_of::<Sum>()) as u64;
        self.place.frames += 1;
        self.place.pairs += u64::from(pairs);
        self.place.bytes += u64::from(len);
        Ok(Some(Frame { bytes, pairs: found, next: self.place }))
    }

    /// The end must tell what has been.
    fn end(&mut self) -> Result<(), BulkError> {
        let offset = self.place.offset;
        let expected = end(&self.head, &self.place);
        let mut found = vec![0; expected.len() - 1];
        read(&mut self.file, &mut found, offset)?;
        if found != expected[1..] {
            return Err(BulkError::Damaged { offset, what: "the end does not tell what was before it".into() });
        }
        match self.file.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(BulkError::Damaged {
                offset: offset + expected.len() as u64,
                what: "something behind the end".into(),
            }),
        }
    }
}

/// The end of a file that has come so far.
fn end(head: &Sum, place: &Place) -> Vec<u8> {
    let Place { frames, pairs, bytes, .. } = *place;
    let mut told = vec![END];
    [frames, pairs, bytes].iter().for_each(|number| told.extend_from_slice(&number.to_le_bytes()));
    let sum = sum(&[head, &frames.to_le_bytes(), &told]);
    told.extend_from_slice(&sum);
    told
}

fn pairs_of(bytes: &[u8], count: u32, mut last: Option<KeyPath>) -> Result<Vec<Pair>, String> {
    let mut input = bytes;
    let mut part = |max: usize, what: &str| -> Result<Range<usize>, String> {
        let len = Compact::<u32>::decode(&mut input).ok().map(|len| len.0 as usize);
        let len =
            len.filter(|len| *len <= input.len() && *len <= max).ok_or_else(|| format!("a {what} that is too long"))?;
        let start = bytes.len() - input.len();
        input = &input[len..];
        Ok(start..start + len)
    };
    // The count has been held against the most that a frame has.
    let mut pairs = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (key, value) = (part(KEY_BYTES_MAX, "key")?, part(VALUE_BYTES_MAX, "value")?);
        let path = KeyPath::of(&bytes[key.clone()]);
        if last.is_some_and(|last| last >= path) {
            return Err(format!("the key of the path {path} is out of order"));
        }
        last = Some(path);
        pairs.push(Pair { leaf: Leaf { path, value_hash: ValueHash::of(&bytes[value.clone()]) }, key, value });
    }
    match input.is_empty() {
        true => Ok(pairs),
        false => Err("a frame with more than its pairs".into()),
    }
}

/// Fills the buffer with what belongs to the piece that begins at `offset`.
fn read(file: &mut impl Read, buffer: &mut [u8], offset: u64) -> Result<(), BulkError> {
    file.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BulkError::Truncated { offset },
        _ => BulkError::File(error),
    })
}

/// Writes frames, from a place where the file ends.
pub(super) struct Frames<W> {
    file: W,
    head: Sum,
    pub(super) place: Place,
    bytes: Vec<u8>,
    pairs: u32,
}

impl<W: Write> Frames<W> {
    pub(super) fn new(file: W, head: Sum, place: Place) -> Self {
        Self { file, head, place, bytes: Vec::with_capacity(FRAME_BYTES), pairs: 0 }
    }

    /// Puts the next pair in; whether that filled a frame, which is written then.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        for part in [key, value] {
            Compact(part.len() as u32).encode_to(&mut self.bytes);
            self.bytes.extend_from_slice(part);
        }
        self.pairs += 1;
        let is_full = self.bytes.len() >= FRAME_BYTES || self.pairs == FRAME_PAIRS;
        if is_full {
            self.write()?;
        }
        Ok(is_full)
    }

    fn write(&mut self) -> io::Result<()> {
        let mut zipped = vec![0; zstd_safe::compress_bound(self.bytes.len())];
        let zipped_len = zstd_safe::compress(&mut zipped[..], &self.bytes, LEVEL);
        let zipped = &zipped[..zipped_len.map_err(|code| io::Error::other(zstd_safe::get_error_name(code)))?];
        let sizes = [self.pairs, self.bytes.len() as u32, zipped.len() as u32].map(u32::to_le_bytes).concat();
        let sum = sum(&[&self.head, &self.place.frames.to_le_bytes(), &[FRAME], &sizes, zipped]);
        let frame = [&[FRAME], &sizes[..], zipped, &sum].concat();
        self.file.write_all(&frame)?;
        self.place.offset += frame.len() as u64;
        self.place.frames += 1;
        self.place.pairs += u64::from(self.pairs);
        self.place.bytes += self.bytes.len() as u64;
        self.bytes.clear();
        self.pairs = 0;
        Ok(())
    }

    /// Writes what is left, and the end.
    pub(super) fn finish(mut self) -> io::Result<Place> {
        if self.pairs > 0 {
            self.write()?;
        }
        self.file.write_all(&end(&self.head, &self.place))?;
        Ok(self.place)
    }
}
