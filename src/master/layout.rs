//! The first tables of a cluster: pure, from the configuration.
//!
//! Every start makes what is missing, so that a start that was cut off is completed by the next, and a
//! group or node that was added to the configuration is taken up. Slots are given out once.

use super::record::{NodeRecord, Record};
use crate::config::{Backend, Config, Group};
use crate::error::{Error, Result};
use crate::protocol::cluster::{Class, GroupRoute, TabletRoute, spread_slots, tablet_id};
use std::collections::BTreeMap;

/// Records that the configuration asks for and `kept` does not have, in the order in which they are to
/// be written; or why the configuration does not fit what is kept.
pub fn missing(config: &Config, kept: &BTreeMap<String, Record>) -> Result<Vec<Record>> {
    let mut wanted = vec![Record::Register { id: uuid::Uuid::new_v4().to_string() }];
    for group in &config.groups {
        let route = GroupRoute {
            name: group.name.clone(),
            small_tablets: config.store.small_tablets,
            large_tablets: config.store.large_tablets,
        };
        check_counts(&route, kept)?;
        wanted.push(Record::Group(route));
        wanted.extend(group.backends.iter().map(|b| node(group, b, kept)));
        wanted.extend(tablets(config, group));
    }
    let names: Vec<String> = config.groups.iter().map(|g| g.name.clone()).collect();
    wanted.push(Record::Slots { ranges: spread_slots(&names) });
    wanted.retain(|record| match record {
        Record::Node(_) => kept.get(&record.key()) != Some(record),
        _ => !kept.contains_key(&record.key()),
    });
    Ok(wanted)
}

fn check_counts(wanted: &GroupRoute, kept: &BTreeMap<String, Record>) -> Result<()> {
    let key = Record::Group(wanted.clone()).key();
    match kept.get(&key) {
        Some(Record::Group(made)) if made != wanted => Err(Error::config(format!(
            "group {} was made with store.small_tablets = {} and store.large_tablets = {}, and they \
             cannot change",
            made.name, made.small_tablets, made.large_tablets
        ))),
        _ => Ok(()),
    }
}

/// A node as configured; its disk as it is known. A node may move to another address, not to another group.
fn node(group: &Group, backend: &Backend, kept: &BTreeMap<String, Record>) -> Record {
    let mut node = NodeRecord {
        name: backend.name.clone(),
        address: backend.address.clone(),
        group: group.name.clone(),
        store_uuid: None,
    };
    if let Some(Record::Node(known)) = kept.get(&super::record::node_key(&backend.name)) {
        node.store_uuid = known.store_uuid.clone();
        node.group = known.group.clone();
    }
    Record::Node(node)
}

/// The tablets of a group, their primaries spread over its nodes.
fn tablets(config: &Config, group: &Group) -> Vec<Record> {
    let nodes: Vec<String> = group.backends.iter().map(|b| b.name.clone()).collect();
    let small = (0..config.store.small_tablets).map(|i| (Class::Small, i));
    let large = (0..config.store.large_tablets).map(|i| (Class::Large, i));
    let tablet = |(class, index)| {
        let mut route = TabletRoute {
            id: tablet_id(&group.name, class, index),
            group: group.name.clone(),
            class,
            index,
            epoch: 0,
            primary: None,
            isr: Vec::new(),
            members: nodes.clone(),
            min_insync: config.replication.min_insync,
            clean: false,
        };
        route.primary = preferred(&route, config.store.small_tablets).map(Into::into);
        route.isr.extend(route.primary.clone());
        Record::Tablet(route)
    };
    small.chain(large).map(tablet).collect()
}

/// The member that is to be a tablet's primary when all is well: the members in turn, over the small-value
/// tablets of a group (of which there are so many) and then the large-value ones.
pub fn preferred(route: &TabletRoute, small_tablets: u32) -> Option<&str> {
    let place = match route.class {
        Class::Small => route.index,
        Class::Large => small_tablets + route.index,
    };
    let turn = (place as usize).checked_rem(route.members.len())?;
    Some(&route.members[turn])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::parse(include_str!("../../conf/local.toml")).unwrap()
    }

    fn keep(records: Vec<Record>) -> BTreeMap<String, Record> {
        records.into_iter().map(|r| (r.key(), r)).collect()
    }

    #[test]
    fn primaries_are_spread_evenly_over_the_nodes_of_their_group() {
        let mut led: BTreeMap<String, u32> = BTreeMap::new();
        for record in missing(&config(), &BTreeMap::new()).unwrap() {
            if let Record::Tablet(t) = record {
                let primary = t.primary.unwrap();
                assert!(primary.starts_with(&t.group));
                *led.entry(primary).or_default() += 1;
            }
        }
        assert_eq!(led.len(), 6);
        assert!(led.values().all(|&n| n == 3), "{led:?}");
    }

    #[test]
    fn a_start_that_was_cut_off_is_completed() {
        let all = missing(&config(), &BTreeMap::new()).unwrap();
        assert!(matches!(all.last(), Some(Record::Slots { .. })));
        for cut in 1..=all.len() {
            let kept = keep(all[..cut].to_vec());
            assert_eq!(missing(&config(), &kept).unwrap(), all[cut..]);
        }
    }

    #[test]
    fn tablet_counts_cannot_change() {
        let kept = keep(missing(&config(), &BTreeMap::new()).unwrap());
        let mut changed = config();
        changed.store.small_tablets = 7;
        assert!(matches!(missing(&changed, &kept), Err(Error::Config(_))));
    }

    #[test]
    fn a_node_may_move_to_another_address_and_keeps_its_disk() {
        let mut kept = keep(missing(&config(), &BTreeMap::new()).unwrap());
        let Some(Record::Node(node)) = kept.get_mut("node/a2") else { panic!("a2 is kept") };
        node.store_uuid = Some("u".into());
        let mut changed = config();
        changed.groups[0].backends[1].address = "127.0.0.1:9".into();
        let [Record::Node(moved)] = &missing(&changed, &kept).unwrap()[..] else {
            panic!("one record changes")
        };
        assert_eq!(
            (moved.address.as_str(), moved.store_uuid.as_deref()),
            ("127.0.0.1:9", Some("u"))
        );
    }
}
