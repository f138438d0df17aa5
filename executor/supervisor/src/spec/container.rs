//! The container of a run, as the supervisor must know it: what is decided by the executor, before what the
//! task's process finds out with the submitter's rights.

use crate::wire::{Error, Reader, Writer};

/// A folder or file of the node that is seen inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the node.
    pub source: Vec<u8>,
    /// Inside.
    pub target: Vec<u8>,
    /// It cannot be written.
    pub read_only: bool,
    /// The submitter named it: that it is missing or closed to them ends the task with a sentence.
    pub asked: bool,
}

/// What every task of the run is put into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Apptainer's program (absolute), its verb and the options that hold for the whole run.
    pub command: Vec<Vec<u8>>,
    /// The image that is run: a SIF or squashfs file, or a folder.
    pub image: Vec<u8>,
    /// What the submitter named, where that is another path: they must be able to read it.
    pub source: Vec<u8>,
    /// What is seen inside.
    pub binds: Vec<Bind>,
    /// The job's own folder with `tmp` and `var_tmp`, made by the executor; empty: none.
    pub scratch: Vec<u8>,
    /// The home folder, mounted where it is there; empty: not.
    pub home: Vec<u8>,
    /// Folder inside that the task starts in; empty: the one that it would have outside.
    pub work_dir: Vec<u8>,
    /// `NAME=value` entries over the task's own.
    pub environment: Vec<Vec<u8>>,
    /// Variables whose value outside wins over the image's.
    pub kept: Vec<Vec<u8>>,
    /// Why there is none; the task says this and ends. Empty: there is one.
    pub refusal: Vec<u8>,
}

impl Container {
    pub(super) fn put(&self, out: &mut Writer<'_>) {
        super::put_strings(out, &self.command);
        out.bytes(&self.image);
        out.bytes(&self.source);
        out.list(&self.binds, |out, bind| {
            out.bytes(&bind.source);
            out.bytes(&bind.target);
            out.bool(bind.read_only);
            out.bool(bind.asked);
        });
        out.bytes(&self.scratch);
        out.bytes(&self.home);
        out.bytes(&self.work_dir);
        super::put_strings(out, &self.environment);
        super::put_strings(out, &self.kept);
        out.bytes(&self.refusal);
    }

    pub(super) fn get(fields: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            command: super::get_strings(fields, "container command")?,
            image: fields.bytes("image")?,
            source: fields.bytes("image source")?,
            binds: fields.list("binds", |fields| {
                Ok(Bind {
                    source: fields.bytes("bind source")?,
                    target: fields.bytes("bind target")?,
                    read_only: fields.bool("bind mode")?,
                    asked: fields.bool("bind origin")?,
                })
            })?,
            scratch: fields.bytes("scratch")?,
            home: fields.bytes("home")?,
            work_dir: fields.bytes("container work dir")?,
            environment: super::get_strings(fields, "container environment")?,
            kept: super::get_strings(fields, "kept variables")?,
            refusal: fields.bytes("refusal")?,
        })
    }
}
