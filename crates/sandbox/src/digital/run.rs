//! What a run did.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::finding::{Finding, Severity};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunEnd {
    /// All was asked that was to be asked; answers may have been wrong.
    Complete,
    /// It stopped at the first failure: `implementation.info`, or a list where the
    /// knob says so.
    Aborted,
    /// Nothing was asked: the channel is switched off, after failed runs.
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
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// How long the answer took.
    pub took: Duration,
    /// What came of it, in a line.
    pub outcome: String,
    /// Whether it counts as a success for the platform.
    pub succeeded: bool,
    /// What the answer breaks.
    pub findings: Vec<Finding>,
}

/// A run of the crawler: what it asked, in order, and what was wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// Its number in the channel, from 1. 0 for what is no run: a channel that is
    /// saved, a probe, a write.
    pub number: u64,
    /// How it ended.
    pub end: RunEnd,
    /// What was asked.
    pub steps: Vec<Step>,
    /// What is wrong beyond a single answer.
    pub findings: Vec<Finding>,
}

impl Run {
    pub(super) fn new(number: u64) -> Self {
        Self { number, end: RunEnd::Complete, steps: Vec::new(), findings: Vec::new() }
    }

    /// Everything that is wrong, in order.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.steps.iter().flat_map(|step| &step.findings).chain(&self.findings)
    }

    /// What is wrong and not just odd.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings().filter(|finding| finding.severity == Severity::Error)
    }

    /// Whether it came to its end and nothing at all is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.end == RunEnd::Complete && self.findings().next().is_none()
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
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        let end = match self.end {
            RunEnd::Complete => "complete",
            RunEnd::Aborted => "aborted",
            RunEnd::SwitchedOff => "switched off",
        };
        write!(f, "{end}: {} asked, {} wrong", self.steps.len(), self.findings().count())
    }
}
