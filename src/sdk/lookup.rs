use std::fmt;

use crate::client::Error;

/// Why there is nobody to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// Nothing is known of the service: no registry has answered, or lets it be followed, and there is no list on the disk.
    /// What is wrong is the way to the registry.
    NoKnownProviders {
        /// The service.
        service: String,
        /// What the last attempt met.
        why: Option<Error>,
    },
    /// The registry says that the service has no providers.
    Empty {
        /// The service.
        service: String,
    },
    /// There are providers, and all of them ask for no traffic: weight 0, starting, draining, out of service.
    NoneWanted {
        /// The service.
        service: String,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::NoKnownProviders { service, why: None } => {
                write!(f, "nothing is known of {service} yet")
            }
            LookupError::NoKnownProviders { service, why: Some(why) } => {
                write!(f, "nothing is known of {service}, and no registry says it: {why}")
            }
            LookupError::Empty { service } => write!(f, "{service} has no providers"),
            LookupError::NoneWanted { service } => {
                write!(f, "no provider of {service} takes calls at present")
            }
        }
    }
}

impl std::error::Error for LookupError {}

/// The services whose lists were not known in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady(pub Vec<LookupError>);

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.first().map(ToString::to_string).unwrap_or_default();
        write!(f, "{} services are not known in time; {first}", self.0.len())
    }
}

impl std::error::Error for NotReady {}
