//! The form of a [`Stat`] on the wire: 68 bytes.

use super::{DecodeError, Jute, Reader, Writer};
use crate::types::Stat;

/// Calls a macro with the fields in the order of the wire, which is not that of the struct's users.
macro_rules! in_wire_order {
    ($each:ident) => {
        $each!(
            czxid,
            mzxid,
            ctime_ms,
            mtime_ms,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
            pzxid
        )
    };
}

impl Jute for Stat {
    fn read(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        macro_rules! read {
            ($($field:ident),*) => { Stat { $($field: reader.read()?,)* } };
        }
        Ok(in_wire_order!(read))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        macro_rules! write {
            ($($field:ident),*) => {{ $(self.$field.write(writer);)* }};
        }
        in_wire_order!(write);
    }
}
