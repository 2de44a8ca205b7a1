//! Values on their way to and from Postgres.

use agentos_types::{Fault, Result};
use bytes::{BufMut, BytesMut};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type},
};

use crate::Arg;

type Failure = Box<dyn std::error::Error + Sync + Send>;

/// Postgres has no character zero in a text. What a program sent with one is stored with this sign in its place.
const ZERO_SHOWN: &str = "\u{2400}";

impl ToSql for Arg<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self {
            Arg::Null => return Ok(IsNull::Yes),
            Arg::Integer(number) if *ty == Type::INT8 => out.put_i64(*number),
            Arg::Integer(number) if *ty == Type::INT4 => out.put_i32(i32::try_from(*number)?),
            Arg::Text(text) if is_text(ty) && text.contains('\0') => {
                out.put_slice(text.replace('\0', ZERO_SHOWN).as_bytes());
            }
            Arg::Text(text) if is_text(ty) => out.put_slice(text.as_bytes()),
            Arg::Bytes(bytes) if *ty == Type::BYTEA => out.put_slice(bytes),
            _ => return Err(format!("a parameter of type {ty} got another value").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // Decided above, where the value is known.
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.to_sql(ty, out)
    }
}

fn is_text(ty: &Type) -> bool {
    <&str as FromSql<'_>>::accepts(ty)
}

/// Integers of any width: literals and functions of Postgres are narrower than its columns.
struct Number(i64);

impl<'a> FromSql<'a> for Number {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(if *ty == Type::INT4 { i32::from_sql(ty, raw)?.into() } else { i64::from_sql(ty, raw)? }))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INT8 || *ty == Type::INT4
    }
}

pub(crate) fn integer(row: &Row, index: usize) -> Result<Option<i64>> {
    Ok(get::<Number>(row, index)?.map(|number| number.0))
}

pub(crate) fn get<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<Option<T>> {
    row.try_get(index).map_err(Fault::internal)
}
