// Written by `cargo xtask codegen` from StreamsGroupCurrentMemberAssignmentValue.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamsGroupCurrentMemberAssignmentValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    pub state: i8,
    pub active_tasks: Vec<TaskIds>,
    pub standby_tasks: Vec<TaskIds>,
    pub warmup_tasks: Vec<TaskIds>,
    pub active_tasks_pending_revocation: Vec<TaskIds>,
    pub standby_tasks_pending_revocation: Vec<TaskIds>,
    pub warmup_tasks_pending_revocation: Vec<TaskIds>,
}

impl StreamsGroupCurrentMemberAssignmentValue {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.member_epoch = r.i32()?;
        value.previous_member_epoch = r.i32()?;
        value.state = r.i8()?;
        value.active_tasks = r.array(true, 3, version, TaskIds::read)?;
        value.standby_tasks = r.array(true, 3, version, TaskIds::read)?;
        value.warmup_tasks = r.array(true, 3, version, TaskIds::read)?;
        value.active_tasks_pending_revocation = r.array(true, 3, version, TaskIds::read)?;
        value.standby_tasks_pending_revocation = r.array(true, 3, version, TaskIds::read)?;
        value.warmup_tasks_pending_revocation = r.array(true, 3, version, TaskIds::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.member_epoch);
        w.i32(self.previous_member_epoch);
        w.i8(self.state);
        w.array(true, version, &self.active_tasks, TaskIds::write)?;
        w.array(true, version, &self.standby_tasks, TaskIds::write)?;
        w.array(true, version, &self.warmup_tasks, TaskIds::write)?;
        w.array(true, version, &self.active_tasks_pending_revocation, TaskIds::write)?;
        w.array(true, version, &self.standby_tasks_pending_revocation, TaskIds::write)?;
        w.array(true, version, &self.warmup_tasks_pending_revocation, TaskIds::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TaskIds {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
    pub assignment_epochs: Option<Vec<i32>>,
}

impl Default for TaskIds {
    fn default() -> TaskIds {
        TaskIds {
            subtopology_id: Str::default(),
            partitions: Vec::new(),
            assignment_epochs: Some(Vec::new()),
        }
    }
}

impl TaskIds {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.subtopology_id = r.string(true)?;
        value.partitions = r.array(true, 4, version, |r, _| r.i32())?;
        r.tagged_fields(|r, tag| {
            match tag {
                0 => value.assignment_epochs = r.nullable_array(true, 4, version, |r, _| r.i32())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.subtopology_id)?;
        w.array(true, version, &self.partitions, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        let has_assignment_epochs = self.assignment_epochs.as_ref().is_none_or(|value| !value.is_empty());
        w.uvarint(u32::from(has_assignment_epochs));
        if has_assignment_epochs {
            w.tagged_field(0, |w| {
                w.nullable_array(true, version, self.assignment_epochs.as_deref(), |value, w, _| {
                    w.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Message for StreamsGroupCurrentMemberAssignmentValue {
    const NAME: &'static str = "StreamsGroupCurrentMemberAssignmentValue";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;
    const FIRST_FLEXIBLE_VERSION: i16 = 0;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
