//! Macros for tables of records.
//!
//! A row names the fields once for both directions, with the names that they have both in the `.proto` file and in the
//! domain. A missing field or alternative does not compile.

/// Structs of the domain, each stored as the message of the same name in `$package`.
macro_rules! records {
    ($package:ident: $($name:ident { $($field:ident),* })*) => {$(
        impl Stored<$package::$name> for $name {
            fn store(&self) -> $package::$name {
                let Self { $($field),* } = self;
                $package::$name { $($field: Stored::store($field)),* }
            }

            fn load(form: $package::$name, _: Place) -> Result<Self, StoredError> {
                let $package::$name { $($field),* } = form;
                Ok(Self {
                    $($field: Stored::load(
                        $field,
                        Place { message: stringify!($name), field: stringify!($field) },
                    )?),*
                })
            }
        }

        impl Stored<Option<$package::$name>> for $name {
            fn store(&self) -> Option<$package::$name> {
                Some(Stored::store(self))
            }

            fn load(form: Option<$package::$name>, place: Place) -> Result<Self, StoredError> {
                let form = form.ok_or_else(|| place.has(FieldProblem::Missing))?;
                Stored::load(form, place)
            }
        }
    )*};
}

/// Enums of the domain, each stored as a oneof of messages in `$module`, which the `.proto` file calls `$prefix…`.
/// Unnamed fields of a variant are written with their position, like `check @ 0`.
macro_rules! alternatives {
    ($($name:ident = $outer:ident::$oneof:ident of $module:ident, $prefix:literal {
        $($variant:ident { $($field:ident $(@ $at:tt)?),* })*
    })*) => {$(
        impl Stored<Option<$outer::$oneof>> for $name {
            fn store(&self) -> Option<$outer::$oneof> {
                Some(match self {
                    $(Self::$variant { $($($at:)? $field),* } => {
                        $outer::$oneof::$variant($module::$variant { $($field: Stored::store($field)),* })
                    })*
                })
            }

            fn load(form: Option<$outer::$oneof>, place: Place) -> Result<Self, StoredError> {
                match form.ok_or_else(|| place.has(FieldProblem::Missing))? {
                    $($outer::$oneof::$variant($module::$variant { $($field),* }) => {
                        $(let $field = Stored::load(
                            $field,
                            Place { message: concat!($prefix, stringify!($variant)), field: stringify!($field) },
                        )?;)*
                        Ok(Self::$variant { $($($at:)? $field),* })
                    })*
                }
            }
        }
    )*};
}

/// Enums of the domain, each stored as the enum of the same name in `$package`.
macro_rules! choices {
    ($package:ident: $($name:ident { $($variant:ident),* })*) => {$(
        impl Stored<i32> for $name {
            fn store(&self) -> i32 {
                let form = match self {
                    $(Self::$variant => $package::$name::$variant,)*
                };
                form.into()
            }

            fn load(form: i32, place: Place) -> Result<Self, StoredError> {
                match $package::$name::try_from(form) {
                    $(Ok($package::$name::$variant) => Ok(Self::$variant),)*
                    _ => Err(place.has(FieldProblem::UnknownNumber(form))),
                }
            }
        }
    )*};
}

/// Causes of the domain, which know their numbers.
macro_rules! causes {
    ($($kind:ty),*) => {$(
        impl Stored<i32> for $kind {
            fn store(&self) -> i32 {
                self.number().cast_signed()
            }

            fn load(form: i32, place: Place) -> Result<Self, StoredError> {
                Self::from_number(form.cast_unsigned())
                    .ok_or_else(|| place.has(FieldProblem::UnknownNumber(form)))
            }
        }
    )*};
}

pub(super) use {alternatives, causes, choices, records};
