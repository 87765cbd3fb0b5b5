//! The primitive types, and how records are made of them.

use super::DecodeError;
use crate::types::{Data, SessionId, Zxid};

/// The bytes of one frame, read from the front. Copies nothing until a value that owns its bytes is asked
/// for.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Returns what has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next value, of whatever type is expected.
    pub fn read<T: Jute>(&mut self) -> Result<T, DecodeError> {
        T::read(self)
    }

    /// Reads exactly so many bytes.
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads a length; `None` for null, which is written as -1.
    fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        match i32::read(self)? {
            -1 => Ok(None),
            length => Ok(Some(usize::try_from(length).map_err(|_| DecodeError::Length(length))?)),
        }
    }

    /// Reads a buffer or the bytes of a string; `None` for null.
    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        self.length()?.map(|length| self.take(length)).transpose()
    }
}

/// Appends values to a buffer. Cannot fail: a caller keeps what it writes far below the 2 GiB that a length
/// can express, since frames have a bound.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to this buffer.
    pub fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { out }
    }

    /// Appends a buffer or the bytes of a string; `None` is null.
    pub fn bytes(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.length(bytes.len());
                self.out.extend_from_slice(bytes);
            }
            None => (-1).write(self),
        }
    }

    /// Appends bytes as they are, such as records that were encoded before.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends the number of items of a list; the items follow.
    pub fn length(&mut self, length: usize) {
        i32::try_from(length).expect("a frame is shorter than 2 GiB").write(self);
    }
}

/// A value that has a form on the wire.
pub trait Jute: Sized {
    /// Reads the value. An error leaves the reader somewhere within it.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Appends the value.
    fn write(&self, writer: &mut Writer<'_>);
}

impl Jute for bool {
    fn read(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        Ok(reader.array::<1>()? != [0])
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.push(u8::from(*self));
    }
}

/// A flag at the very end of a record that older clients leave out: `None` when nothing is there.
impl Jute for Option<bool> {
    fn read(reader: &mut Reader<'_>) -> Result<Option<bool>, DecodeError> {
        if reader.rest.is_empty() { Ok(None) } else { reader.read().map(Some) }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        if let Some(flag) = self {
            flag.write(writer);
        }
    }
}

impl Jute for i32 {
    fn read(reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(reader.array()?))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Jute for i64 {
    fn read(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(reader.array()?))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(&self.to_be_bytes());
    }
}

/// On the wire a signed number with the same bits.
impl Jute for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(reader.array()?))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(&self.to_be_bytes());
    }
}

/// On the wire a signed number with the same bits.
impl Jute for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(reader.array()?))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Jute for Zxid {
    fn read(reader: &mut Reader<'_>) -> Result<Zxid, DecodeError> {
        reader.read().map(Zxid)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

impl Jute for SessionId {
    fn read(reader: &mut Reader<'_>) -> Result<SessionId, DecodeError> {
        reader.read().map(SessionId)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

impl Jute for Option<Data> {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Data>, DecodeError> {
        Ok(reader.bytes()?.map(Data::new))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.as_deref());
    }
}

/// A text in UTF-8; null is taken for the empty text. Java writes characters beyond U+FFFF in a form of its
/// own, which is refused here: no path may hold them.
impl Jute for String {
    fn read(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        Ok(<Option<String>>::read(reader)?.unwrap_or_default())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(Some(self.as_bytes()));
    }
}

/// As above, where null has its own meaning.
impl Jute for Option<String> {
    fn read(reader: &mut Reader<'_>) -> Result<Option<String>, DecodeError> {
        let Some(bytes) = reader.bytes()? else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotText)?;
        Ok(Some(text.to_owned()))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.as_deref().map(str::as_bytes));
    }
}

/// A list; null is taken for the empty one. It grows as items are read and not by what its length promises.
impl<T: Jute> Jute for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let count = reader.length()?.unwrap_or(0);
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(reader.read()?);
        }
        Ok(items)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.length(self.len());
        self.iter().for_each(|item| item.write(writer));
    }
}

/// Declares records: structs whose form on the wire is their fields, one after the other.
macro_rules! record {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $kind:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl $crate::jute::Jute for $name {
            fn read(
                reader: &mut $crate::jute::Reader<'_>,
            ) -> Result<$name, $crate::jute::DecodeError> {
                Ok($name { $($field: reader.read()?,)* })
            }

            fn write(&self, writer: &mut $crate::jute::Writer<'_>) {
                $(self.$field.write(writer);)*
            }
        }
    )*};
}
pub(super) use record;
