//! Results as they are read back from files.

use std::str::FromStr;

use crate::result::{Run, SCHEMA};
use crate::scenario::Played;
use crate::scenario::compare::Comparison;

/// A result that a report can be made from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Document {
    /// Of `compare`.
    Comparison(Box<Comparison>),
    /// Of `scenario`.
    Played(Box<Played>),
    /// Of `run`.
    Run(Box<Run>),
}

impl FromStr for Document {
    type Err = DocumentError;

    /// Reads what `--json` of one of the commands has written.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let schema_of = |schema: &str| if schema == SCHEMA { Ok(()) } else { Err(DocumentError::Schema(schema.into())) };
        if value.get("schema").is_some_and(|schema| !schema.is_string()) {
            return Err(DocumentError::Kind);
        }
        if let Some(schema) = value.get("schema").and_then(serde_json::Value::as_str) {
            schema_of(schema)?;
        }
        if value.get("summary").is_some() {
            Ok(Self::Run(serde_json::from_value(value)?))
        } else if value.get("checks").is_some() {
            let played: Box<Played> = serde_json::from_value(value)?;
            played.phases.iter().try_for_each(|phase| schema_of(&phase.run.schema))?;
            Ok(Self::Played(played))
        } else if value.get("subjects").is_some() {
            let comparison: Box<Comparison> = serde_json::from_value(value)?;
            comparison.played.iter().try_for_each(|played| schema_of(&played.schema))?;
            Ok(Self::Comparison(comparison))
        } else {
            Err(DocumentError::Kind)
        }
    }
}

/// Why a text is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Not JSON, or not of the form that it says.
    #[error("not a result of this tool")]
    Json(#[from] serde_json::Error),
    /// JSON of something else.
    #[error("expected what --json of run, scenario (but of search) or compare has written")]
    Kind,
    /// Of another version.
    #[error("its schema is {0:?}, and this tool knows {SCHEMA}")]
    Schema(String),
}
