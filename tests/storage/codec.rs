//! Every entry and item comes back from its binary form, and no bytes make a decoder panic.

use penncloud::protocol::cell::{Bytes, Cell, Chunk, Head, Key, Value, ValueId};
use penncloud::protocol::command::RequestId;
use penncloud::protocol::entry::{Answer, Effect, Encode, Entry, Item, Retired, Session, Staged};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::sync::Arc;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Key> {
    (any::<u16>(), bytes(), bytes()).prop_map(|(slot, row, column)| Key { slot, row, column })
}

fn id() -> impl Strategy<Value = ValueId> {
    any::<u128>().prop_map(ValueId)
}

fn value() -> impl Strategy<Value = Value> {
    let chunk = any::<(u32, u32)>().prop_map(|(length, crc)| Chunk { length, crc });
    let head = (id(), any::<u64>(), any::<u32>(), vec(chunk, 0..5))
        .prop_map(|(id, length, crc, chunks)| Head { id, length, crc, chunks });
    prop_oneof![bytes().prop_map(Value::Inline), head.prop_map(|head| Value::Big(Arc::new(head)))]
}

fn answer() -> impl Strategy<Value = Answer> {
    (any::<u64>(), vec(bytes(), 0..4)).prop_map(|(version, words)| Answer { version, words })
}

fn staged() -> impl Strategy<Value = Staged> {
    (bytes(), any::<u64>()).prop_map(|(row, deadline)| Staged { row, deadline })
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        (key(), value(), any::<u64>()).prop_map(|(key, value, expires)| Effect::Put {
            key,
            value,
            expires
        }),
        key().prop_map(Effect::Delete),
        (any::<u16>(), bytes()).prop_map(|(slot, row)| Effect::DeleteRow { slot, row }),
        (key(), any::<u64>()).prop_map(|(key, last)| Effect::Sequence(key, last)),
        (id(), staged()).prop_map(|(id, staged)| Effect::Stage(id, staged)),
        id().prop_map(Effect::Abandon),
        id().prop_map(Effect::Forget),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let request = any::<(u128, u64, u64)>().prop_map(|(client, request, low)| RequestId {
        client,
        request,
        low,
    });
    let lineage = any::<(u64, u64, u64, u64)>();
    (lineage, proptest::option::of(request), answer(), vec(effect(), 0..6)).prop_map(
        |((epoch, version, prev_epoch, retire), request, answer, effects)| Entry {
            epoch,
            version,
            prev_epoch,
            retire,
            request,
            answer,
            effects,
        },
    )
}

fn item() -> impl Strategy<Value = Item> {
    let cell = (any::<(u64, u64)>(), value()).prop_map(|((version, expires), value)| Cell {
        version,
        expires,
        value,
    });
    let retired = any::<(u16, u64)>().prop_map(|(slot, due)| Retired { slot, due });
    let session = (any::<(u64, u64)>(), btree_map(any::<u64>(), answer(), 0..4))
        .prop_map(|((low, last), answers)| Session { low, last, answers });
    prop_oneof![
        (key(), cell).prop_map(|(key, cell)| Item::Cell(key, cell)),
        (key(), any::<u64>()).prop_map(|(key, last)| Item::Sequence(key, last)),
        (id(), staged()).prop_map(|(id, staged)| Item::Staged(id, staged)),
        (id(), retired).prop_map(|(id, retired)| Item::Retired(id, retired)),
        (any::<u128>(), session).prop_map(|(client, session)| Item::Session(client, session)),
        any::<u128>().prop_map(Item::Evicted),
    ]
}

/// It comes back whole, and no part of it passes for another.
fn comes_back<T: Encode + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
    let bytes = value.to_bytes();
    prop_assert_eq!(&T::from_bytes(&bytes).expect("whole"), value);
    for end in 0..bytes.len() {
        prop_assert!(T::from_bytes(&bytes[..end]).is_err(), "{} of {}", end, bytes.len());
    }
    prop_assert!(T::from_bytes(&[bytes, vec![0]].concat()).is_err());
    Ok(())
}

proptest! {
    #[test]
    fn every_entry_comes_back(entry in entry()) {
        comes_back(&entry)?;
    }

    #[test]
    fn every_item_comes_back(item in item()) {
        comes_back(&item)?;
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Entry::from_bytes(&bytes);
        let _ = Item::from_bytes(&bytes);
    }

    #[test]
    fn a_changed_entry_is_refused_or_still_an_entry(
        entry in entry(), at in any::<prop::sample::Index>(), bits in 1u8..,
    ) {
        let mut bytes = entry.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(other) = Entry::from_bytes(&bytes) {
            comes_back(&other)?;
        }
    }
}
