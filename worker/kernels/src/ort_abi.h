/* The part of ONNX Runtime's C interface that our operators need, by position.
 *
 * The interface is a table of function pointers that only ever grows at its end, so a position, once published, holds
 * for good. What is declared here came with version 1.18; the library asks for that version of the table and ONNX
 * Runtime answers NULL if it cannot give it.
 */
#ifndef LEPTON_ORT_ABI_H
#define LEPTON_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_ABI_VERSION 18

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorInfo OrtTensorInfo;

typedef void (*OrtFunction)(void);

typedef struct {
  const OrtFunction *(*table)(uint32_t version);
  const char *(*version_string)(void);
} OrtApiBase;

enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum { ORT_ANY = 0, ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT32 = 6, ORT_INT64 = 7 };
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

/* Positions in the table, and what stands there. */
#define ORT_CALL(table, position, result, ...) ((result(*)(__VA_ARGS__))(table)[position])

#define ort_status(t) ORT_CALL(t, 0, OrtStatus *, int code, const char *message)
#define ort_domain_create(t) ORT_CALL(t, 26, OrtStatus *, const char *name, OrtCustomOpDomain **)
#define ort_domain_add(t) ORT_CALL(t, 27, OrtStatus *, OrtCustomOpDomain *, const struct OrtCustomOp *)
#define ort_options_add(t) ORT_CALL(t, 28, OrtStatus *, OrtSessionOptions *, OrtCustomOpDomain *)
#define ort_data(t) ORT_CALL(t, 51, OrtStatus *, OrtValue *, void **)
#define ort_num_dims(t) ORT_CALL(t, 61, OrtStatus *, const OrtTensorInfo *, size_t *)
#define ort_dims(t) ORT_CALL(t, 62, OrtStatus *, const OrtTensorInfo *, int64_t *, size_t)
#define ort_tensor_info(t) ORT_CALL(t, 65, OrtStatus *, const OrtValue *, OrtTensorInfo **)
#define ort_attribute_float(t) ORT_CALL(t, 85, OrtStatus *, const OrtKernelInfo *, const char *, float *)
#define ort_attribute_int(t) ORT_CALL(t, 86, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *)
#define ort_attribute_string(t) ORT_CALL(t, 87, OrtStatus *, const OrtKernelInfo *, const char *, char *, size_t *)
#define ort_num_inputs(t) ORT_CALL(t, 88, OrtStatus *, const OrtKernelContext *, size_t *)
#define ort_input(t) ORT_CALL(t, 90, OrtStatus *, const OrtKernelContext *, size_t, const OrtValue **)
#define ort_output(t) \
  ORT_CALL(t, 91, OrtStatus *, OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **)
#define ort_release_status(t) ORT_CALL(t, 93, void, OrtStatus *)
#define ort_release_tensor_info(t) ORT_CALL(t, 99, void, OrtTensorInfo *)
#define ort_parallel_for(t) \
  ORT_CALL(t, 274, OrtStatus *, const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *)

/* An operator: what ONNX Runtime asks of it. Fields that are not set mean the default. */
struct OrtCustomOp {
  uint32_t version;
  void *(*create_v1)(const struct OrtCustomOp *, const OrtFunction *, const OrtKernelInfo *);
  const char *(*name)(const struct OrtCustomOp *);
  const char *(*provider)(const struct OrtCustomOp *);
  int (*input_type)(const struct OrtCustomOp *, size_t);
  size_t (*num_inputs)(const struct OrtCustomOp *);
  int (*output_type)(const struct OrtCustomOp *, size_t);
  size_t (*num_outputs)(const struct OrtCustomOp *);
  void (*compute_v1)(void *, OrtKernelContext *);
  void (*destroy)(void *);
  int (*input_kind)(const struct OrtCustomOp *, size_t);
  int (*output_kind)(const struct OrtCustomOp *, size_t);
  int (*input_memory)(const struct OrtCustomOp *, size_t);
  int (*variadic_inputs_min)(const struct OrtCustomOp *);
  int (*variadic_inputs_alike)(const struct OrtCustomOp *);
  int (*variadic_outputs_min)(const struct OrtCustomOp *);
  int (*variadic_outputs_alike)(const struct OrtCustomOp *);
  OrtStatus *(*create)(const struct OrtCustomOp *, const OrtFunction *, const OrtKernelInfo *, void **);
  OrtStatus *(*compute)(void *, OrtKernelContext *);
  OrtStatus *(*infer_shape)(const struct OrtCustomOp *, void *);
  int (*version_first)(const struct OrtCustomOp *);
  int (*version_last)(const struct OrtCustomOp *);
  size_t (*inplace)(int **, int **);
  void (*inplace_release)(int *, int *);
  size_t (*alias)(int **, int **);
  void (*alias_release)(int *, int *);
};

#endif
