//! From a changed list to modifications.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use milter_core::edit::{Edited, PlanError, Planner, Profile, Unplaceable};
use milter_core::{Header, Modification};

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
        let planner = Planner::new(profile)
            .leading_space(leading_space)
            .unplaceable(unplaceable);
        let original = self.original.as_ref();
        self.plan_from(original.map_or(&[][..], |original| original), &planner)
    }

    /// The same, for headers that the MTA showed, whatever became of the list that they were in.
    pub(crate) fn plan_of(
        &self,
        shown: &Arc<[Header]>,
        planner: &Planner<'_>,
    ) -> Result<Vec<Modification>, PlanError> {
        let original = self.original.as_ref();
        if original.is_some_and(|original| Arc::ptr_eq(original, shown)) {
            return self.plan_from(shown, planner);
        }
        // Another list was put in its place. What is the same in both stays.
        let mut places: HashMap<_, VecDeque<usize>> = HashMap::new();
        for (place, header) in shown.iter().enumerate() {
            places.entry(key(header)).or_default().push_back(place);
        }
        let mut list = Self {
            is_changed: true,
            ..self.clone()
        };
        for entry in &mut list.entries {
            let places = places.get_mut(&key(&entry.header));
            entry.origin = match (places.and_then(VecDeque::pop_front), entry.origin) {
                (Some(place), _) => Origin::Shown(place),
                (None, Origin::AddedOnTop) => Origin::AddedOnTop,
                (None, _) => Origin::Added,
            };
        }
        list.plan_from(shown, planner)
    }

    fn plan_from(
        &self,
        shown: &[Header],
        planner: &Planner<'_>,
    ) -> Result<Vec<Modification>, PlanError> {
        if let Some(error) = &self.error {
            return Err(error.clone().into());
        }
        if !self.is_changed {
            return Ok(Vec::new());
        }
        planner.plan(shown, self.entries.iter().map(Entry::edited))
    }
}

fn key(header: &Header) -> (&[u8], &[u8]) {
    (header.name().as_bytes(), header.value().as_bytes())
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
