//! The parsed input of the derive, typed and borrowed. Only the form of attributes is checked here.

use quote::ToTokens;
use syn::{Data, DeriveInput, Fields, Generics, Ident, Member, Type};

use crate::attr::{self, FieldAttrs, ModelAttrs};
use crate::ctxt::Ctxt;

/// The annotated type.
pub(crate) struct Model<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) attrs: ModelAttrs,
    pub(crate) shape: Shape<'a>,
}

pub(crate) enum Shape<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Vec<Variant<'a>>),
}

/// A field of a struct or of a variant.
pub(crate) struct Field<'a> {
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
    pub(crate) attrs: FieldAttrs,
}

/// A variant of an enum.
pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    /// The place of errors about all fields of the variant.
    pub(crate) source: &'a Fields,
    pub(crate) fields: Vec<Field<'a>>,
}

impl<'a> Model<'a> {
    pub(crate) fn parse(cx: &Ctxt, input: &'a DeriveInput) -> Self {
        let attrs = ModelAttrs::parse(cx, &input.attrs);
        let shape = match &input.data {
            Data::Struct(data) => Shape::Struct(Field::parse_all(cx, &data.fields)),
            Data::Enum(data) => Shape::Enum(
                data.variants.iter().map(|variant| Variant::parse(cx, variant)).collect(),
            ),
            Data::Union(data) => {
                cx.error(
                    data.union_token,
                    "`Prunable` can be derived for structs and enums; a union does not say which field data flows through",
                );
                Shape::Struct(Vec::new())
            }
        };
        Model { ident: &input.ident, generics: &input.generics, attrs, shape }
    }

    /// The fields of the struct, or of all variants.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field<'a>> {
        let (fields, variants): (&[Field<'a>], &[Variant<'a>]) = match &self.shape {
            Shape::Struct(fields) => (fields, &[]),
            Shape::Enum(variants) => (&[], variants),
        };
        fields.iter().chain(variants.iter().flat_map(|variant| &variant.fields))
    }
}

impl<'a> Field<'a> {
    fn parse_all(cx: &Ctxt, fields: &'a Fields) -> Vec<Self> {
        let parse = |(field, member): (&'a syn::Field, Member)| {
            // syn accepts a field named `_` and a trait object without `dyn`; rustc accepts
            // neither.
            if let Some(ident) = field.ident.as_ref().filter(|ident| *ident == "_") {
                cx.error(ident, "a field has a name; write one instead of `_`");
            }
            if matches!(&field.ty, Type::TraitObject(object) if object.dyn_token.is_none()) {
                cx.error(&field.ty, "this is no type; a trait object is written `dyn A + B`");
            }
            Field { member, ty: &field.ty, attrs: FieldAttrs::parse(cx, &field.attrs) }
        };
        fields.iter().zip(fields.members()).map(parse).collect()
    }

    /// The field's name in paths and expressions. A raw identifier loses its `r#`.
    pub(crate) fn name(&self) -> String {
        match &self.member {
            Member::Named(ident) => syn::ext::IdentExt::unraw(ident).to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        }
    }

    /// The tokens to report an error at: the name, or the type of an unnamed field.
    pub(crate) fn place(&self) -> &dyn ToTokens {
        match &self.member {
            Member::Named(ident) => ident,
            Member::Unnamed(_) => self.ty,
        }
    }
}

impl<'a> Variant<'a> {
    fn parse(cx: &Ctxt, variant: &'a syn::Variant) -> Self {
        attr::refuse(
            cx,
            &variant.attrs,
            "a variant takes no `prune` attribute; write it on the variant's field",
        );
        let fields = Field::parse_all(cx, &variant.fields);
        Variant { ident: &variant.ident, source: &variant.fields, fields }
    }
}
