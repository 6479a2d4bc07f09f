/* The part of LiteRT's C API that classifier.c calls: the 23 functions below, as LiteRT 2.3.0 has them.
 *
 * The wheel ai-edge-litert contains libLiteRt.so, but no headers. These declarations were written for this program; the
 * originals are the files litert/c/litert_*.h of https://github.com/google-ai-edge/LiteRT, which say what each function
 * does and who owns what it returns. Releases differ: older ones create a
 * model without an environment.
 *
 * The names and values are LiteRT's: Copyright 2024 Google LLC.
 * Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
 * the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
 * Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an
 * "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the
 * specific language governing permissions and limitations under the License.
 */
#ifndef MIXNET_TF_LITERT_H
#define MIXNET_TF_LITERT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOpT *LiteRtOp;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

/* enums there; int32_t here, so that a value that is not named below is no undefined behaviour in C++ */
typedef int32_t LiteRtStatus; /* 0 is success */
typedef int32_t LiteRtElementType;
typedef int32_t LiteRtOpCode;
typedef int32_t LiteRtTensorBufferType;
typedef int32_t LiteRtTensorBufferLockMode;
typedef int32_t LiteRtAnyType;
typedef int32_t LiteRtEnvOptionTag;

enum { kLiteRtElementTypeFloat32 = 1, kLiteRtElementTypeUInt8 = 3 };
enum { kLiteRtOpCodeTflLogistic = 14, kLiteRtOpCodeTflSoftmax = 25 };
enum { kLiteRtTensorBufferTypeHostMemory = 1 };
enum { kLiteRtTensorBufferLockModeRead = 0, kLiteRtTensorBufferLockModeWrite = 1 };
enum { kLiteRtAnyTypeInt = 2 };
enum { kLiteRtEnvOptionTagAutoRegisterAccelerators = 24, kLiteRtEnvOptionTagMinLoggerSeverity = 25 };
enum { kLiteRtHwAcceleratorCpu = 1 };
enum { kLiteRtLogSeveritySilent = 4 };

typedef struct {
    unsigned int rank : 7;
    bool has_strides : 1;
    int32_t dimensions[8];
    uint32_t strides[8];
} LiteRtLayout;

typedef struct {
    LiteRtElementType element_type;
    LiteRtLayout layout;
} LiteRtRankedTensorType;

typedef struct {
    LiteRtOp op;
    size_t output;
} LiteRtTensorDefiningOp;

typedef struct {
    LiteRtAnyType type;
    union {
        int64_t int_value;
        const void *ptr_value;
    };
} LiteRtAny;

typedef struct {
    LiteRtEnvOptionTag tag;
    LiteRtAny value;
} LiteRtEnvOption;

static_assert(sizeof(LiteRtRankedTensorType) == 72, "LiteRT 2.3.0 has 72 bytes here");
static_assert(sizeof(LiteRtEnvOption) == 24, "LiteRT 2.3.0 has 24 bytes here");

/* litert_environment.h */
LiteRtStatus LiteRtCreateEnvironment(int count, const LiteRtEnvOption *options, LiteRtEnvironment *environment);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

/* litert_model.h; the buffer must stay as long as the model */
LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment environment, const void *buffer, size_t size,
                                         LiteRtModel *model);
void LiteRtDestroyModel(LiteRtModel model);
LiteRtStatus LiteRtGetModelMetadata(LiteRtModel model, const char *key, const void **data, size_t *size);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature *signature);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type);
LiteRtStatus LiteRtGetTensorDefiningOp(LiteRtTensor tensor, bool *has_one, LiteRtTensorDefiningOp *defining);
LiteRtStatus LiteRtGetOpCode(LiteRtOp op, LiteRtOpCode *code);

/* litert_options.h */
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
void LiteRtDestroyOptions(LiteRtOptions options);

/* litert_compiled_model.h */
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                                       LiteRtCompiledModel *compiled);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature, size_t input_count,
                                    LiteRtTensorBuffer *inputs, size_t output_count, LiteRtTensorBuffer *outputs);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);

/* litert_tensor_buffer.h */
LiteRtStatus LiteRtCreateManagedTensorBuffer(LiteRtEnvironment environment, LiteRtTensorBufferType buffer_type,
                                             const LiteRtRankedTensorType *type, size_t size,
                                             LiteRtTensorBuffer *buffer);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **memory, LiteRtTensorBufferLockMode mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);

#ifdef __cplusplus
}
#endif
#endif
