//! What a virtual server may do with a match.

use std::time::Duration;

use super::planner::Plan;

/// One way to play a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behaviour {
    Normal,
    LateReady,
    NeverReady,
    DoubleEnd,
    EndBeforeReady,
    WrongMatchId,
    SilentAfterTaking,
    ReadyTwice,
    NeverEnds,
}

/// One thing to do with a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Report it as ready.
    Ready,
    /// Report an unknown match as ready.
    ReadyOfAnother,
    /// Report it as over.
    End,
    /// Do nothing more, and report nothing.
    Forget,
}

impl Behaviour {
    pub(super) const ALL: [Self; 9] = [
        Self::Normal,
        Self::LateReady,
        Self::NeverReady,
        Self::DoubleEnd,
        Self::EndBeforeReady,
        Self::WrongMatchId,
        Self::SilentAfterTaking,
        Self::ReadyTwice,
        Self::NeverEnds,
    ];

    /// Its name in the settings.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::LateReady => "late_ready",
            Self::NeverReady => "never_ready",
            Self::DoubleEnd => "double_end",
            Self::EndBeforeReady => "end_before_ready",
            Self::WrongMatchId => "wrong_match_id",
            Self::SilentAfterTaking => "silent_after_taking",
            Self::ReadyTwice => "ready_twice",
            Self::NeverEnds => "never_ends",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|behaviour| behaviour.name() == name)
    }

    /// Its steps in order, each with the time since the match was taken. Never empty: after the last step, the server
    /// requests the next match.
    pub(super) fn steps(self, plan: &Plan) -> Vec<(Duration, Step)> {
        let ready = plan.ready_delay;
        let end = ready + plan.duration;
        let forget = (plan.forget_after, Step::Forget);
        match self {
            Self::Normal => vec![(ready, Step::Ready), (end, Step::End)],
            Self::LateReady => {
                vec![(ready + plan.late_by, Step::Ready), (end + plan.late_by, Step::End)]
            }
            Self::NeverReady | Self::SilentAfterTaking => vec![forget],
            Self::DoubleEnd => vec![(ready, Step::Ready), (end, Step::End), (end, Step::End)],
            Self::EndBeforeReady => vec![(ready, Step::End), (ready, Step::Ready)],
            Self::WrongMatchId => {
                vec![(ready, Step::ReadyOfAnother), (ready, Step::Ready), (end, Step::End)]
            }
            Self::ReadyTwice => {
                vec![(ready, Step::Ready), (ready, Step::Ready), (end, Step::End)]
            }
            Self::NeverEnds => vec![(ready, Step::Ready), (ready.max(plan.forget_after), Step::Forget)],
        }
    }
}
