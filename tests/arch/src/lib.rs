//! Rules about the sources themselves; see `tests/`.
