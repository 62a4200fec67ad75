//! What is written, typed and borrowed: nothing is judged here but the form of attributes.

use syn::{Data, DeriveInput, Generics, Ident, Member, Type};

use crate::attr::{FieldAttrs, ModelAttrs};
use crate::ctxt::Ctxt;

/// The annotated struct.
pub(crate) struct Model<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) attrs: ModelAttrs,
    pub(crate) fields: Vec<Field<'a>>,
}

/// One of its fields.
pub(crate) struct Field<'a> {
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
    pub(crate) attrs: FieldAttrs,
}

impl<'a> Model<'a> {
    pub(crate) fn parse(cx: &Ctxt, input: &'a DeriveInput) -> Self {
        let attrs = ModelAttrs::parse(cx, &input.attrs);
        let fields = match &input.data {
            Data::Struct(data) => {
                data.fields.iter().zip(data.fields.members()).map(|(field, member)| Field::parse(cx, field, member)).collect()
            }
            Data::Enum(data) => {
                cx.error(
                    data.enum_token,
                    "`Prunable` can be derived for structs, whose fields say how data flows; write `impl Prunable` by hand for an enum",
                );
                Vec::new()
            }
            Data::Union(data) => {
                cx.error(
                    data.union_token,
                    "`Prunable` can be derived for structs, whose fields say how data flows; a union has no data flow",
                );
                Vec::new()
            }
        };
        Model { ident: &input.ident, generics: &input.generics, attrs, fields }
    }
}

impl<'a> Field<'a> {
    fn parse(cx: &Ctxt, field: &'a syn::Field, member: Member) -> Self {
        Field { member, ty: &field.ty, attrs: FieldAttrs::parse(cx, &field.attrs) }
    }
}
