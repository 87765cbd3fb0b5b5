//! Ops and their results as they stand in a multi: each behind a header, a last header as the end.

use super::wire::record;
use super::{DecodeError, Jute, Reader, Writer};

/// The opcode of an error among results, and of the header at the end.
const NONE: i32 = -1;

record! {
    /// In front of each item of a multi.
    struct MultiHeader {
        /// Which kind of item follows.
        pub opcode: i32,
        /// Whether this is the end and nothing follows.
        pub done: bool,
        /// -1 in requests; in replies 0 or what went wrong.
        pub err: i32,
    }
}

/// A value whose layout is told by an opcode that stands in front of it.
pub trait Tagged: Sized {
    /// Returns the opcode.
    fn opcode(&self) -> i32;
    /// Reads the body that belongs to an opcode; `None` if there is none with that opcode.
    fn read_body(opcode: i32, reader: &mut Reader<'_>) -> Option<Result<Self, DecodeError>>;
    /// Appends the body.
    fn write_body(&self, writer: &mut Writer<'_>);
}

/// Something that can stand in a multi.
pub trait Item: Tagged {
    /// Returns the `err` in its header.
    fn header_err(&self) -> i32 {
        NONE
    }
}

/// The items of a multi, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ops<T>(pub Vec<T>);

impl<T: Item> Jute for Ops<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Ops<T>, DecodeError> {
        let mut items = Vec::new();
        loop {
            let header: MultiHeader = reader.read()?;
            if header.done {
                return Ok(Ops(items));
            }
            let item = T::read_body(header.opcode, reader);
            items.push(item.ok_or(DecodeError::NotInMulti(header.opcode))??);
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        for item in &self.0 {
            MultiHeader { opcode: item.opcode(), done: false, err: item.header_err() }
                .write(writer);
            item.write_body(writer);
        }
        MultiHeader { opcode: NONE, done: true, err: NONE }.write(writer);
    }
}

/// Declares an enum whose variants have an opcode and, mostly, a body: `OPCODE => Variant(Body)`. Behind a
/// semicolon may follow variants that are such enums themselves. The one table makes it [`Tagged`].
macro_rules! ops {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $opcode:path => $variant:ident $(($body:ty))?,)*
        $(; $($(#[$inner_meta:meta])* $outer:ident($inner:ty),)*)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant $(($body))?,)*
            $($($(#[$inner_meta])* $outer($inner),)*)?
        }

        impl $crate::jute::ops::Tagged for $name {
            fn opcode(&self) -> i32 {
                match self {
                    $($name::$variant $((ops!(@any $body)))? => $opcode,)*
                    $($($name::$outer(inner) => inner.opcode(),)*)?
                }
            }

            fn read_body(
                opcode: i32,
                reader: &mut $crate::jute::Reader<'_>,
            ) -> Option<Result<$name, $crate::jute::DecodeError>> {
                match opcode {
                    $($opcode => return Some(ops!(@read $name::$variant, reader $(, $body)?)),)*
                    _ => {}
                }
                $($(if let Some(inner) = <$inner>::read_body(opcode, reader) {
                    return Some(inner.map($name::$outer));
                })*)?
                None
            }

            fn write_body(&self, writer: &mut $crate::jute::Writer<'_>) {
                match self {
                    $($name::$variant $((ops!(@bind body $body)))? => {
                        ops!(@write writer $(, body $body)?);
                    })*
                    $($($name::$outer(inner) => inner.write_body(writer),)*)?
                }
            }
        }
    };
    (@any $body:ty) => { _ };
    (@bind $bound:ident $body:ty) => { $bound };
    (@read $made:path, $reader:ident) => { Ok($made) };
    (@read $made:path, $reader:ident, $body:ty) => { $reader.read::<$body>().map($made) };
    (@write $writer:ident) => {};
    (@write $writer:ident, $bound:ident $body:ty) => { <$body as $crate::jute::Jute>::write($bound, $writer) };
}
pub(super) use ops;
