//! The report of a run.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::violation::{Severity, Violation};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunEnd {
    /// Every request was made; answers may have been wrong.
    Complete,
    /// The run stopped at the first failure: `implementation.info`, or a list where the setting says
    /// so.
    Aborted,
    /// No request was made: failed runs have switched the channel off.
    SwitchedOff,
}

/// One action and its answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The action.
    pub action: String,
    /// Its parameters.
    pub params: Option<Map<String, Value>>,
    /// The response status, if there was one.
    pub status: Option<u16>,
    /// How long the answer took.
    pub took: Duration,
    /// The outcome in one line.
    pub outcome: String,
    /// Whether the platform counts it as a success.
    pub succeeded: bool,
    /// The violations in the answer.
    pub violations: Vec<Violation>,
}

/// A run of the crawler: its requests, in order, and the violations.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// Its number in the channel, from 1; 0 for saves, checks and single writes.
    pub number: u64,
    /// How it ended.
    pub end: RunEnd,
    /// The requests.
    pub steps: Vec<Step>,
    /// Violations that concern more than one answer.
    pub violations: Vec<Violation>,
}

impl Run {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, end: RunEnd::Complete, steps: Vec::new(), violations: Vec::new() }
    }

    /// All violations, in order.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.steps.iter().flat_map(|step| &step.violations).chain(&self.violations)
    }

    /// Violations of severity [`Error`](super::Severity::Error).
    pub fn errors(&self) -> impl Iterator<Item = &Violation> {
        self.violations().filter(|violation| violation.severity == Severity::Error)
    }

    /// Whether it completed without violations.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.end == RunEnd::Complete && self.violations().next().is_none()
    }

    /// The actions that were sent, in order.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.action.as_str())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or("---".to_owned(), |status| status.to_string());
        write!(f, "{:<24} {status}  {}", self.action, self.outcome)?;
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        let end = match self.end {
            RunEnd::Complete => "complete",
            RunEnd::Aborted => "aborted",
            RunEnd::SwitchedOff => "switched off",
        };
        write!(f, "{end}: {} asked, {} wrong", self.steps.len(), self.violations().count())
    }
}
