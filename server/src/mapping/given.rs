//! A mapping as its source gives it, each with texts of its own. A [`Backend`](super::Backend) is made of these.

use arngate_core::Partition;
use arngate_core::arn::ArnShape;
use arngate_core::arn_pattern::PatternShape;
use arngate_core::mapping::{SsoRole, Subject, SubjectError, UserId};

use crate::document::Position;

/// One mapping: whom it is for, and what it makes of him.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub(super) subject: OwnedSubject,
    /// Whether the unique id is whom it is for, and the subject what has to fit beside it.
    pub(super) by_user_id: bool,
    pub(super) names: Names,
}

/// What a mapping makes of an identity.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Template of the user's name.
    pub username: String,
    /// Templates of the user's groups.
    pub groups: Vec<String>,
    /// The unique id of the role or user, which only strict dynamic files compare.
    pub user_id: Option<String>,
    /// Where the mapping stands in its document.
    pub position: Option<Position>,
}

/// A core [`Subject`] that owns its text.
#[derive(Clone, Debug)]
pub(super) enum OwnedSubject {
    Anybody,
    Exact { arn: String, shape: ArnShape },
    Pattern { arn: String, shape: PatternShape },
    Sso { permission_set: String, account_id: String, partition: Partition },
}

impl Mapping {
    /// A mapping for a `rolearn` or `userarn`; `patterns` says whether `*` and `?` have a meaning.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] where the ARN is none, or a pattern that could never match or matches too much.
    pub fn for_arn(arn: String, patterns: bool, names: Names) -> Result<Self, SubjectError> {
        let subject = match Subject::from_arn(&arn, patterns)? {
            Subject::Exact(exact) => {
                let shape = exact.arn().shape();
                OwnedSubject::Exact { arn, shape }
            }
            Subject::Pattern(pattern) => {
                let shape = pattern.shape();
                OwnedSubject::Pattern { arn, shape }
            }
            _ => unreachable!("an ARN names nothing else"),
        };
        Ok(Self { subject, by_user_id: false, names })
    }

    /// A mapping for the role of a permission set.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] where AWS would take neither the permission set's name nor the account.
    pub fn for_sso(permission_set: String, account_id: String, partition: Partition, names: Names) -> Result<Self, SubjectError> {
        SsoRole::new(&permission_set, &account_id, partition)?;
        Ok(Self { subject: OwnedSubject::Sso { permission_set, account_id, partition }, by_user_id: false, names })
    }

    /// A mapping for whoever has the unique id of `names`; none, if that is empty or not there.
    #[must_use]
    pub fn for_user_id(names: Names) -> Option<Self> {
        Self { subject: OwnedSubject::Anybody, by_user_id: false, names }.by_user_id()
    }

    /// The same for whoever has its unique id too; none, if that is empty or not there.
    #[must_use]
    pub fn by_user_id(self) -> Option<Self> {
        let has_one = self.names.user_id.as_ref().is_some_and(|id| !id.is_empty());
        has_one.then_some(Self { by_user_id: true, ..self })
    }

    /// Whom it is for. There is always one, for the constructors have read the same text.
    #[must_use]
    pub fn subject(&self) -> Option<Subject<'_>> {
        let named = match &self.subject {
            OwnedSubject::Anybody => None,
            OwnedSubject::Exact { arn, shape } => Some(Subject::Exact(shape.over(arn)?.canonical())),
            OwnedSubject::Pattern { arn, shape } => Some(Subject::Pattern(shape.over(arn)?)),
            OwnedSubject::Sso { permission_set, account_id, partition } => {
                Some(SsoRole::new(permission_set, account_id, *partition).map(Subject::Sso).ok()?)
            }
        };
        if self.by_user_id { Some(Subject::UserId(UserId::new(self.names.user_id.as_deref()?, named))) } else { named }
    }
}
