/* The operators of this library, and what they answer alike when ONNX Runtime asks about them. */
#ifndef LEPTON_OPERATORS_H
#define LEPTON_OPERATORS_H

#include "ort_abi.h"

#define PUBLIC __attribute__((visibility("default"))) /* what is found by its name from outside */

extern const struct OrtCustomOp block_matmul;
extern const struct OrtCustomOp attention;
extern const struct OrtCustomOp largest;

const char *operator_provider(const struct OrtCustomOp *); /* NULL: the processor */
int operator_memory(const struct OrtCustomOp *, size_t);   /* where the provider has its own */
size_t operator_one(const struct OrtCustomOp *);
int operator_float(const struct OrtCustomOp *, size_t);
int operator_required(const struct OrtCustomOp *, size_t);
/* A copy of an operator's attributes, freed by `free`: what a session hands to every call of the node. */
OrtStatus *operator_keep(const OrtFunction *api, const void *attributes, size_t size, void **kernel);

#endif
