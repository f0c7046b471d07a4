//! How the origin of a new stream is chosen, and how much each origin gets: what is set, not what is done with
//! it. Knows no fleet.

use srs_proxy_core::origin::Origin;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The largest weight: fine enough for any fleet, and small enough that sums and products of it fit.
pub const MAX_WEIGHT: u16 = 1000;

/// The weight of an origin that none is set for.
const DEFAULT_WEIGHT: u16 = 1;

/// How the origin of a new stream is chosen among those that are usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// By chance.
    #[default]
    Random,
    /// Of two drawn by chance, the one with fewer streams for its weight: nearly as even as the best of all, and
    /// proxies that know the same loads do not all run to the same origin.
    LeastStreams,
    /// By a hash of the stream and each origin's `server`: proxies that know the same origins agree without a
    /// store, and an origin that comes or goes moves no stream but its own.
    Rendezvous,
}

impl Policy {
    /// Each policy's name.
    pub const NAMES: &[&str] = &["random", "least-streams", "rendezvous"];

    /// The policy of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "random" => Some(Self::Random),
            "least-streams" => Some(Self::LeastStreams),
            "rendezvous" => Some(Self::Rendezvous),
            _ => None,
        }
    }
}

/// Which share of new streams each origin gets: one of weight 3 three times as many as one of weight 1, one of
/// weight 0 none at all. An origin without a weight has 1.
///
/// As text, `origin1=3,origin2=0`: an origin's `server` or its `device_id`, and a weight of 0 to [`MAX_WEIGHT`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weights(BTreeMap<Box<str>, u16>);

impl Weights {
    /// An origin's weight.
    pub(crate) fn of(&self, origin: &Origin) -> u16 {
        let names = [&*origin.server, &*origin.device_id];
        names.iter().find_map(|name| self.0.get(*name)).copied().unwrap_or(DEFAULT_WEIGHT)
    }

    /// No origin's weight is larger.
    pub(crate) fn largest(&self) -> u16 {
        self.0.values().copied().fold(DEFAULT_WEIGHT, u16::max)
    }
}

impl FromStr for Weights {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        let mut weights = BTreeMap::new();
        for entry in text.split(',').filter(|_| !text.trim().is_empty()) {
            let error = |problem| WeightsError { entry: entry.to_owned(), problem };
            let (name, weight) = entry.rsplit_once('=').ok_or(error(WeightProblem::NoPair))?;
            let name =
                Some(name.trim()).filter(|name| !name.is_empty()).ok_or(error(WeightProblem::NoPair))?;
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
            if weights.insert(name.into(), weight.ok_or(error(WeightProblem::NoWeight))?).is_some() {
                return Err(error(WeightProblem::Twice));
            }
        }
        Ok(Self(weights))
    }
}

/// Why a text says no weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightsError {
    /// The entry that is wrong.
    pub entry: String,
    /// What is wrong with it.
    pub problem: WeightProblem,
}

/// What is wrong with a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightProblem {
    /// It is not `NAME=WEIGHT`.
    NoPair,
    /// The weight is no number, or larger than [`MAX_WEIGHT`].
    NoWeight,
    /// The origin has one already.
    Twice,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.entry)?;
        match self.problem {
            WeightProblem::NoPair => f.write_str("is not NAME=WEIGHT"),
            WeightProblem::NoWeight => write!(f, "has no weight of 0 to {MAX_WEIGHT}"),
            WeightProblem::Twice => f.write_str("has a weight already"),
        }
    }
}

impl Error for WeightsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(text: &str) -> Weights {
        text.parse().unwrap()
    }

    fn origin(server: &str, device_id: &str) -> Origin {
        Origin {
            device_id: device_id.into(),
            server: server.into(),
            service: "v".into(),
            pid: "1".into(),
            endpoints: vec![],
        }
    }

    #[test]
    fn an_origin_is_named_by_its_server_or_its_device() {
        let weights = weights(" origin1=3, vid-1 = 0,a=b=1000");
        assert_eq!(weights.of(&origin("vid-2", "origin1")), 3);
        assert_eq!(weights.of(&origin("vid-1", "origin2")), 0);
        assert_eq!(weights.of(&origin("vid-1", "origin1")), 0, "`server` is the surer name");
        assert_eq!(weights.of(&origin("a=b", "")), 1000);
        assert_eq!(weights.of(&origin("other", "")), 1);
        assert_eq!(weights.largest(), 1000);
    }

    #[test]
    fn without_weights_all_are_alike() {
        for text in ["", " "] {
            assert_eq!(weights(text), Weights::default());
        }
        assert_eq!(weights("a=0").largest(), 1);
    }

    #[test]
    fn what_is_no_weight_is_named() {
        for (text, error) in [
            ("a", r#""a" is not NAME=WEIGHT"#),
            ("a=1,", r#""" is not NAME=WEIGHT"#),
            ("=1", r#""=1" is not NAME=WEIGHT"#),
            ("a=1001", r#""a=1001" has no weight of 0 to 1000"#),
            ("a=-1", r#""a=-1" has no weight of 0 to 1000"#),
            ("b=1,a=x", r#""a=x" has no weight of 0 to 1000"#),
            ("a=1,a=2", r#""a=2" has a weight already"#),
        ] {
            assert_eq!(text.parse::<Weights>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn each_policy_has_its_name() {
        let named: Vec<_> = Policy::NAMES.iter().filter_map(|name| Policy::named(name)).collect();
        assert_eq!(named, [Policy::Random, Policy::LeastStreams, Policy::Rendezvous]);
        assert_eq!(Policy::named("best"), None);
    }
}
