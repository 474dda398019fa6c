//! Old plugins on this host: the samples of every released track must load and answer. See `wit/VERSIONING.md`.
