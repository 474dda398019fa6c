use crate::Error;

impl Error {
    /// The text that people see.
    pub fn message(&self) -> &str {
        match self {
            Self::Invalid(m)
            | Self::NotFound(m)
            | Self::Denied(m)
            | Self::Unavailable(m)
            | Self::Timeout(m)
            | Self::Failed(m)
            | Self::Other(m) => m,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// The same kind of error with another text.
    pub fn map_message(self, f: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Invalid(m) => Self::Invalid(f(m)),
            Self::NotFound(m) => Self::NotFound(f(m)),
            Self::Denied(m) => Self::Denied(f(m)),
            Self::Unavailable(m) => Self::Unavailable(f(m)),
            Self::Timeout(m) => Self::Timeout(f(m)),
            Self::Failed(m) => Self::Failed(f(m)),
            Self::Other(m) => Self::Other(f(m)),
        }
    }

    /// Puts what was tried before what went wrong.
    pub fn context(self, what: impl std::fmt::Display) -> Self {
        self.map_message(|m| format!("{what}: {m}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_the_kind() {
        let all: [fn(String) -> Error; 7] = [
            Error::Invalid,
            Error::NotFound,
            Error::Denied,
            Error::Unavailable,
            Error::Timeout,
            Error::Failed,
            Error::Other,
        ];
        for kind in all {
            let error = kind("why".to_owned()).context("what");
            assert_eq!(error, kind("what: why".to_owned()));
            assert_eq!(error.message(), "what: why");
            assert_eq!(error.is_not_found(), matches!(error, Error::NotFound(_)));
        }
    }
}
