/*
 * As much of PKCS#11 2.40 as the test modules of this folder need, written from the standard: the function list in its
 * order, and what is looked into. Slots, sessions, objects, mechanism types, flags and user types are all CK_ULONG, and
 * structures that are only handed on are void.
 */

#ifndef KMS_FAULT_PKCS11_H
#define KMS_FAULT_PKCS11_H

typedef unsigned char CK_BYTE;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;
typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;

typedef struct {
  CK_ULONG mechanism;
  void *pParameter;
  CK_ULONG ulParameterLen;
} CK_MECHANISM;

typedef struct {
  CK_ULONG type;
  void *pValue;
  CK_ULONG ulValueLen;
} CK_ATTRIBUTE;

/* Every function of CK_FUNCTION_LIST in order (PKCS#11 2.40 base specification, section 4). */
#define PKCS11_FUNCTIONS(X) \
  X(C_Initialize, (void *)) \
  X(C_Finalize, (void *)) \
  X(C_GetInfo, (void *)) \
  X(C_GetFunctionList, (CK_FUNCTION_LIST **)) \
  X(C_GetSlotList, (CK_BYTE, CK_ULONG *, CK_ULONG *)) \
  X(C_GetSlotInfo, (CK_ULONG, void *)) \
  X(C_GetTokenInfo, (CK_ULONG, void *)) \
  X(C_GetMechanismList, (CK_ULONG, CK_ULONG *, CK_ULONG *)) \
  X(C_GetMechanismInfo, (CK_ULONG, CK_ULONG, void *)) \
  X(C_InitToken, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *)) \
  X(C_InitPIN, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_SetPIN, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_OpenSession, (CK_ULONG, CK_ULONG, void *, void *, CK_ULONG *)) \
  X(C_CloseSession, (CK_ULONG)) \
  X(C_CloseAllSessions, (CK_ULONG)) \
  X(C_GetSessionInfo, (CK_ULONG, void *)) \
  X(C_GetOperationState, (CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_SetOperationState, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_ULONG, CK_ULONG)) \
  X(C_Login, (CK_ULONG, CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_Logout, (CK_ULONG)) \
  X(C_CreateObject, (CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *)) \
  X(C_CopyObject, (CK_ULONG, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *)) \
  X(C_DestroyObject, (CK_ULONG, CK_ULONG)) \
  X(C_GetObjectSize, (CK_ULONG, CK_ULONG, CK_ULONG *)) \
  X(C_GetAttributeValue, (CK_ULONG, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG)) \
  X(C_SetAttributeValue, (CK_ULONG, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG)) \
  X(C_FindObjectsInit, (CK_ULONG, CK_ATTRIBUTE *, CK_ULONG)) \
  X(C_FindObjects, (CK_ULONG, CK_ULONG *, CK_ULONG, CK_ULONG *)) \
  X(C_FindObjectsFinal, (CK_ULONG)) \
  X(C_EncryptInit, (CK_ULONG, CK_MECHANISM *, CK_ULONG)) \
  X(C_Encrypt, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_EncryptUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_EncryptFinal, (CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DecryptInit, (CK_ULONG, CK_MECHANISM *, CK_ULONG)) \
  X(C_Decrypt, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DecryptUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DecryptFinal, (CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DigestInit, (CK_ULONG, CK_MECHANISM *)) \
  X(C_Digest, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DigestUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_DigestKey, (CK_ULONG, CK_ULONG)) \
  X(C_DigestFinal, (CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_SignInit, (CK_ULONG, CK_MECHANISM *, CK_ULONG)) \
  X(C_Sign, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_SignUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_SignFinal, (CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_SignRecoverInit, (CK_ULONG, CK_MECHANISM *, CK_ULONG)) \
  X(C_SignRecover, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_VerifyInit, (CK_ULONG, CK_MECHANISM *, CK_ULONG)) \
  X(C_Verify, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_VerifyUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_VerifyFinal, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_VerifyRecoverInit, (CK_ULONG, CK_MECHANISM *, CK_ULONG)) \
  X(C_VerifyRecover, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DigestEncryptUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DecryptDigestUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_SignEncryptUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_DecryptVerifyUpdate, (CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_GenerateKey, (CK_ULONG, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *)) \
  X(C_GenerateKeyPair, (CK_ULONG, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, \
    CK_ULONG *, CK_ULONG *)) \
  X(C_WrapKey, (CK_ULONG, CK_MECHANISM *, CK_ULONG, CK_ULONG, CK_BYTE *, CK_ULONG *)) \
  X(C_UnwrapKey, (CK_ULONG, CK_MECHANISM *, CK_ULONG, CK_BYTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *)) \
  X(C_DeriveKey, (CK_ULONG, CK_MECHANISM *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *)) \
  X(C_SeedRandom, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_GenerateRandom, (CK_ULONG, CK_BYTE *, CK_ULONG)) \
  X(C_GetFunctionStatus, (CK_ULONG)) \
  X(C_CancelFunction, (CK_ULONG)) \
  X(C_WaitForSlotEvent, (CK_ULONG, CK_ULONG *, void *))

#define PKCS11_POINTER(name, parameters) CK_RV(*name) parameters;
struct CK_FUNCTION_LIST {
  struct {
    CK_BYTE major, minor;
  } version;
  PKCS11_FUNCTIONS(PKCS11_POINTER)
};
#undef PKCS11_POINTER

#define CK_UNAVAILABLE_INFORMATION (~0UL)

#define CKF_RW_SESSION 0x2UL
#define CKF_SERIAL_SESSION 0x4UL

#define CKA_CLASS 0x0UL
#define CKA_KEY_TYPE 0x100UL

#define CKR_OK 0x0UL
#define CKR_HOST_MEMORY 0x2UL
#define CKR_GENERAL_ERROR 0x5UL
#define CKR_ARGUMENTS_BAD 0x7UL
#define CKR_FUNCTION_NOT_SUPPORTED 0x54UL
#define CKR_KEY_HANDLE_INVALID 0x60UL
#define CKR_MECHANISM_INVALID 0x70UL
#define CKR_MECHANISM_PARAM_INVALID 0x71UL
#define CKR_OBJECT_HANDLE_INVALID 0x82UL
#define CKR_PIN_INCORRECT 0xA0UL
#define CKR_SESSION_HANDLE_INVALID 0xB3UL
#define CKR_UNWRAPPING_KEY_HANDLE_INVALID 0xF0UL
#define CKR_USER_ALREADY_LOGGED_IN 0x100UL
#define CKR_USER_NOT_LOGGED_IN 0x101UL
#define CKR_WRAPPING_KEY_HANDLE_INVALID 0x113UL
#define CKR_BUFFER_TOO_SMALL 0x150UL

#endif
