//! From a changed list to modifications.

use milter_core::Modification;
use milter_core::edit::{Edited, PlanError, Planner, Profile, Unplaceable};

use super::{Entry, Headers, Origin};

impl Headers {
    /// The modifications that make these headers of those that the MTA
    /// [showed](Self::from_shown), by an MTA that does things as the profile says. Without changes
    /// there are none, and finding that out costs nothing.
    ///
    /// `leading_space` says whether it was negotiated, and `unplaceable` what to do with what the
    /// MTA cannot be told: see [`Planner`].
    ///
    /// ```
    /// use milter_tower::edit::{Profile, Unplaceable};
    /// use milter_tower::{Header, Headers, Modification};
    ///
    /// let shown = [Header::new("X-Spam", "YES"), Header::new("Subject", "hello")];
    /// let mut headers = Headers::from_shown(shown, false);
    /// headers.remove_all("X-Spam");
    /// headers.replace("Subject", "hello again");
    /// let plan = headers.plan(&Profile::postfix(), false, Unplaceable::Refuse)?;
    /// assert_eq!(
    ///     plan,
    ///     [
    ///         Modification::change_header("Subject", 1, "hello again")?,
    ///         Modification::delete_header("X-Spam", 1)?,
    ///     ],
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a change [could not be made](Self::error), or the planner
    /// [cannot make](Planner::plan) the plan.
    pub fn plan(
        &self,
        profile: &Profile,
        leading_space: bool,
        unplaceable: Unplaceable,
    ) -> Result<Vec<Modification>, PlanError> {
        if let Some(error) = &self.error {
            return Err(error.clone().into());
        }
        let Some(original) = &self.original else {
            return Ok(Vec::new());
        };
        Planner::new(profile)
            .leading_space(leading_space)
            .unplaceable(unplaceable)
            .plan(original, self.entries.iter().map(Entry::edited))
    }
}

impl Entry {
    fn edited(&self) -> Edited<'_> {
        match self.origin {
            Origin::Shown(place) => Edited::shown(place, &self.header),
            Origin::Added => Edited::added(&self.header),
            Origin::AddedOnTop => Edited::added_on_top(&self.header),
        }
    }
}
