//! The namespace row.

use super::{NAME, Printer, column, created};
use crate::meta;

pub(crate) static NAMESPACE: Printer = Printer {
    columns: &[NAME, column("Status"), column("Age")],
    cells: |namespace, now| {
        vec![
            meta::name(namespace).into(),
            meta::text(namespace, "/status/phase").into(),
            created(namespace, now).into(),
        ]
    },
};
