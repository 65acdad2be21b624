//! The environment of a command: the variables of the process, or made-up ones.

#[cfg(test)]
use std::collections::HashMap;
#[cfg(test)]
use std::sync::Arc;

/// Where variables are read from.
#[derive(Clone, Debug)]
pub(crate) enum Env {
    /// The process's own.
    Process,
    /// A test's.
    #[cfg(test)]
    MadeUp(Arc<HashMap<String, String>>),
}

impl Env {
    /// These and no others.
    #[cfg(test)]
    pub(crate) fn made_up(variables: &[(&str, &str)]) -> Self {
        Self::MadeUp(Arc::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
    }

    /// The first of these variables that is set and not empty.
    pub(crate) fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name).filter(|value| !value.is_empty()))
    }

    fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::Process => std::env::var(name).ok(),
            #[cfg(test)]
            Self::MadeUp(variables) => variables.get(name).cloned(),
        }
    }
}

/// The same for the SDK.
#[cfg(feature = "aws-sdk")]
impl From<&Env> for aws_types::os_shim_internal::Env {
    fn from(env: &Env) -> Self {
        match env {
            Env::Process => Self::real(),
            #[cfg(test)]
            Env::MadeUp(variables) => Self::from(HashMap::clone(variables)),
        }
    }
}
