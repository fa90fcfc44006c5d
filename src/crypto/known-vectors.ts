/**
 * Fixed keys, inputs and results for every mechanism the service uses, as data. Symmetric ones are the standards' own; the
 * asymmetric keys and results were made once with OpenSSL 3.0 and protect nothing.
 */

import type { Profile } from '../pkcs11/token.ts';

function hex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

function base64(text: string): Buffer {
  return Buffer.from(text, 'base64');
}

/** McGrew and Viega, The Galois/Counter Mode of Operation, test case 16. */
export const GCM = {
  key: hex('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308'),
  mechanism: {
    name: 'aes-gcm',
    iv: hex('cafebabefacedbaddecaf888'),
    aad: hex('feedfacedeadbeeffeedfacedeadbeefabaddad2'),
  },
  plaintext: hex(
    'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72' +
      '1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
  ),
  sealed: hex(
    '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa' +
      '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662' +
      '76fc6ece0f4e1768cddf8853bb2d551b',
  ),
} as const;

/** SP 800-38A F.2.5, first block. */
export const CBC = {
  key: hex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4'),
  mechanism: { name: 'aes-cbc', iv: hex('000102030405060708090a0b0c0d0e0f') },
  plaintext: hex('6bc1bee22e409f96e93d7e117393172a'),
  ciphertext: hex('f58c4c04d6e5f1ba779eabfb5f7bfbd6'),
} as const;

/** RFC 3394 §4.6. */
export const KW = {
  key: hex('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f'),
  plaintext: hex('00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f'),
  wrapped: hex('28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21'),
} as const;

/** RFC 5649 §6, the 20-octet example, under a 192-bit key. */
export const KWP = {
  key: hex('5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8'),
  plaintext: hex('c37b7e6492584340bed12207808941155068f738'),
  wrapped: hex('138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a'),
} as const;

/** RFC 4231 §4.2; the key is followed by zero bytes up to a block, which is the same HMAC (RFC 2104 §2). */
export const HMAC = {
  key: Buffer.concat([Buffer.alloc(20, 0x0b), Buffer.alloc(44)]),
  data: Buffer.from('Hi There', 'ascii'),
  sha256: hex('b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'),
  sha384: hex(
    'afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6',
  ),
  sha512: hex(
    '87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde' +
      'daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854',
  ),
} as const;

/** What the asymmetric answers are about. */
export const MESSAGE = Buffer.from('kms known answer', 'ascii');

export const RSA = {
  pkcs8: base64(
    'MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQDsSWpQoOikLsWNyHj14t+UVcbo3cVP7g9DoAikcImslehqa3ek' +
    'obBSu1UQtPKzrg0wm2mkVA00rL5ClrewrhMDuXqGFJTkehVhYIsmDwN9r3aoUclTLRbSwepzhsmTx7qu65rPEskSOL/zyF/DL7vM' +
    'yzR5/W1iUZ+FK4dYxSRKtQ6v1FIUCpcV7F0dPExVa78NFUQ3HB9Vq7TDq4SEbDKdbKi6XHKfRzqt/qPLDhIEdOzOpa4aAmjaE7TT' +
    'fZevIJOBUTXKP7LZ5Ck3lyBU6kXatvZK4bDIKNGiK10TIO0Cn1ALEeTQx5y2yO0hvHhiH+alcnux5HKTTTEG3+J+oI+VAgMBAAEC' +
    'ggEAJEEJcnCV8WcJwbziLlwOkPxuRhmM5jwxFF+wI8buoM/pdrahh12Vp8P9g9A3svEALhaSaXfKBOyCTsZATfgPi9FAJuVuiPXg' +
    'ZO4Cu6avEvBCpQXTfZMb/t9pASvLrwSEtMUKnj4UItsZPKbgZpri1kPRe+wyBdVfQ/gPTsQE0v9UUNlHExMhGAGNj8cpkpHbaH/H' +
    '1s7NdkXRz15jeY7ZYOScu0HIag1JYPvysOId0Z8N0TqdBWmdV4ATVc+39PVdXdGUquVD2TiRLiW9Hdov7GJnFtZQeKRAZ314QCm2' +
    'PI8U8mmLFSYcOHVs3YAKK6TE813CSe45RNEHTXIUPtNM+wKBgQD7oQj3RsYywP2p3ZAWtuwhJrNr5FTlk8tQkm2PBiY1/667bCin' +
    'CheEHhIYOkyEuVIOJm+I9E8ugzmBWDoZmVzRJo36gln6SwRNOLWLqRcWXvncHzDjUSZuIQttap6lPrcM3QLrNtSRejWqyAxbSMqs' +
    'wCcwBPQta/X0VGBZ9dbOEwKBgQDwZCeuwXL6IJkrgdjN3ncdOPppEQpNbBlXI9U9El8DqX3H1WaBLxRB95ikPT5iL5SVJo1VtYaN' +
    '2obhAsqr4Xbdmnlwms4qWJyCyGoSJGB8rB1Zeviz7lDdLZkTRYbDfNgLikHnv/rTKX1/GMIIQZ9y1+XDKUDKetm5AAKdhwfAtwKB' +
    'gEDaWVA6Gn0cRoSQSUHBdYx5yAaHu+XLuLwUcU5KfHCwbF172+JpdHQlt+4soGoYxXBGMbrvlLTdN2YB0j+kykpRkIg/LmeXDA3H' +
    'Dutm8j9ezTERjO0ZjjkWJTbXIvpd9pnHIKh04kZ4Y/qXQrAIS8xIXhE/RZurVqHZWVf2R52nAoGASircg3J0AvAj0eSR+5JztbRq' +
    'rhfv0ctUVipcFCei4QJeKFWS9rCL036Mvb+Xi7uaYBow6QzEoueVTb8KwNUjU2Phq/hXO4FzaHZlI4vNqSmBNKZYLUuN72+uFuAQ' +
    'oCfYkFbr1pDI1nWqnpgI5Xs5srkhzoDf2Jjmq8lxBSEwJykCgYA2Vm1rs1fVOKui4+fpTF4SlNP/3OyD0JGmahMeEE+IT9UKL94B' +
    'bU+IN1wAjNqpTukjeGgGjgM+mZwV9RSNhd6c60QMAZcwqLRMXFQ2tIPvEn2DDDAixn+uavfFKAsDoCDL+DhCoG5704xGdG8HfuIX' +
    'PRxHLvo+FQFoZCWIRRg2vw==',
  ),
  rs256: base64(
    'VXOmfdvhy644VkZviLaosRSWFHly63hYw0pytXhDuy81tE8dE7kyov/O+ut/mi7fSoOFMpQQ/4aVhSZFLP9IUTovWwBdG6Hi74Uw' +
    'PnIxKvtXBskaGmDO5BCF69XcqzLgl6F+z/+0A6LSCWkp6NadVIVQ2fRhSpeJsAAcccSCv1Om+n+rJbPHc936g8sGx3S3Sbtr8Wz8' +
    '7EJkl6Q2Dyu974bZJH9Iw+wU3xscZgHvVSQrHpnpKR0Mcmj0zbd1kn4tt0UGb2NuZOi1jeDYk6chrCH6JUNrg2EdLhZo7ehDg12N' +
    'p0wj8oNjkLdPXrHsw2nGflxJ6pwXCYpUisH4eP8khw==',
  ),
  ps256: base64(
    'baZ/FbT1JKB5Keq5L018PG2KzrEV2G2Qqg2Clk90mtIV3FlC1yvoMZyf/7pUyLVLyRaM5xswparl1iAQBUkPb5U/nVMMN6+80n4x' +
    'hxgUcMWdO+0GRqjwiFv7xI0p+ubmh0prXRVVmYny5ngdRKiLoQ+IXCCX1PUW49CFQ93oJFpbpzX1iv5USSzuP/0pRmE0jtiXPY/v' +
    'VPP8F8m+fkv3xOdNdMmd8oQQtTDplUGtfA6gFSJL24J31IDq+kKOpzIJSau5pZgouqB6/T/3ccFIMz+ADlMR1AEYmurYquwvSnEG' +
    'nY0Wgksppi0zFm1BmEkIkt79K9nBGdKdVlmgYHpDtw==',
  ),
  oaep: base64(
    'dIVNz8ezXvV9d+PjFp4eobRpxiEZS9beYj4MNzZiSmCGkMyK3KuDUnUImlQsQeR1KTkJX7Be7x/86a7u1geMqFXmSh0isS9046R2' +
    '+6UOdmov3qlLwVEAfzoiPqbLQoDby2ojcOy6HwqaSPA4bOxjFcMOwZvg4PDYpxEoPMDbUAvKRvK3UuVbhaOajbXwl0C0Jfg/3odu' +
    'atw3Nj9/QJ4yyqdQN2VtGNiOvR701cWWmDtfS6MQ/Oxu1Msb1xxmJitu9yHAQdIR967PKAhxsis6ooQP11VvMgb88sNLDP7AlrzT' +
    'VenFzQv/WciGEq1Xtc1m4r9JKkONleskAc6Gpv2bLA==',
  ),
  oaep256: base64(
    'GFA8RSPVeAvk9p/ETCKJsQS9w4Q/j4DoVYOF7xSAkeMs8JUqwSQsmOM+SHx9pktcc5a1gU8vJGGJyz4j26O5DzKeoSQ8DUcsGO3H' +
    '9SPDuQSqLRXf3HNsathJ+Nhc9O9x72IIaSmXtT40UDwFF9eeg27UKoHnYbGg22ma018KXw9EmbM6fwlEL4ThBOoU1fl4gk4sYoC3' +
    'oOntOVqNJ7EMOwVFcWAFBX8OMMMZBLY+GDxHAQZ9pBG3scB7TvR9xiN3mkR3xCIitr2ABNu83WwJdA94etmmNqLdjn/0dWbEuaMu' +
    'CnfXtldFWV6ltRiJ3ka6Rko78rcmSNpLMuoIDQAlTw==',
  ),
  rsa15: base64(
    'cPi0ZDlcTpHjFwtjGeuRlbnxnpS7J0v1vM3Wh6g46jcjOJubA+hY3z8Hzjts4lPnC1KcASlBXgiCXztRls6IhzIETRkwqRPJ8d3o' +
    'kQNCZJC6VIXaXacDo/pgTPyJdLVo4i8GRnEW7oU0RyQG/zVniTqR6L30QWKYBRX6ydbP28LTPa8gr2iL2YBU8ohqB3b+yv56e1KT' +
    'QNfeasZBlpGrFWXiw61mCOmSHdAJGx+msbApLO6iwUFKGs2tMedfWGuAc365NqTDQkS1x/vPVC/11UHTju9Ywysx4w/pv9G9kcAG' +
    'FMAF95Xsayy9eD2F63bxnEGIZ6F+CcIQDJcxbmAARg==',
  ),
} as const;

export interface CurveTest {
  readonly curve: Profile['curves'][number];
  readonly hash: 'sha256' | 'sha384' | 'sha512';
  readonly length: number;
  readonly pkcs8: Buffer;
  /** Raw r‖s over the message. */
  readonly signature: Buffer;
}

export const CURVES: readonly CurveTest[] = [
  {
    curve: 'P-256',
    hash: 'sha256',
    length: 64,
    pkcs8: base64(
      'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3IgNWPtY53wLR/Gl2Rd0Vt+gj63r0EZm+KB5aTMjTi2hRANCAATG' +
      'EYX+WgWEd3xwz6aTrEr1fWgjh5VFkX/98D0gjBMpqBQXW4q8E8+uJAZxYCd5v2TiLWHTMvb6xsSV8sT8oN3e',
    ),
    signature: base64(
      '/WHvQ1NBZgTOMdTadEE97KQ6D8/zpdEG+OLH/FE2aOD2b4AA5BNZZcLXWc6JhPr3K3vdM3R4MgJ66H2tM0QmXw==',
    ),
  },
  {
    curve: 'P-384',
    hash: 'sha384',
    length: 96,
    pkcs8: base64(
      'MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDDNhq+d0vdLd+29qVcZdKY0HUC1bXjwJYGAmZvTgTPMjxebJiJhWCis' +
      'FTTbTq9Xm5mhZANiAARtBCWEZWL8hxfsKbGAwZqGrnxkk1YZn3IflO37zNupyyomyiQWF+yIAfGyCPfQIdhCanVoRIt9MKohy5Et' +
      'g/jcPOgbNWZ9v7zg6qbMMQGDNz/oOFl7c0G0/p3mhw39kjI=',
    ),
    signature: base64(
      '3LMxd1Bnu2Mww38nx/8fPfuShZaZu7IOLtNzwNBI7o71CBSuawZ435VmNhQBIBotdksl8DA50hqu1E8dSg4D4kidt2aseq1JPTte' +
      'aTdiTyLA+PJ35x6FKDPmcc4brMOs',
    ),
  },
  {
    curve: 'P-521',
    hash: 'sha512',
    length: 132,
    pkcs8: base64(
      'MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIA6wjVLFCOEX0V1KVRfIP8AGvp8e7cNyGmO0wNxS7VIUeA9+MEysSu' +
      'bydvlWmdVppBuYYJ/lyMTqCTvYWpaheAs4+hgYkDgYYABAGq5SAs5AknqY2tuivKOuTOJ1N36S6zMHH17es06r4dSt4PgIac0lcF' +
      'SL7DxHQYF2G0NqtxrwqMQFM1MvG8oOqV2gE/BgnKvs+15yw0Xfwl454EeWcUlxBKzQBlKSwcpAMxnu6SZKXGwN+D7859Q1RZvHx5' +
      'Mn7kTo0fFeiimCzyqWs1AA==',
    ),
    signature: base64(
      'AcAakdFgiX/2MjttkwJO1WJzEKcQMHerKsE9r6/DUEjT8zwrX5smE4xQ+RYYZJelYxpKucME7QCNkTTlPHclP7JOAUpXF6lonI1A' +
      'ipk9Qk+idlAQP9bEbwihC/ZqUjgOZwK3PWcwNHvYdtBNVWoXw+duJUU8ExlsLO1nZIIgpCzC8nZh',
    ),
  },
  {
    curve: 'P-256K',
    hash: 'sha256',
    length: 64,
    pkcs8: base64(
      'MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgMlHvBXmD3beUaxMB1E5kVdNCxUHDeNVyJnVzX99apPyhRANCAAS2QQXs' +
      'bOD5fHFJunyPuLRMUhmwAqvW10SNBO72sGO/33Fq9uBBwxAVQh0W0iyLFkIdo+m5saATgcUxv7OQTOU+',
    ),
    signature: base64(
      'qmHHm+BJu09zSgizukgmFV95M3KvtzyxHttw9qEL683eO5ZceuZ1ja9eLJvzO/9mnqm83c6sVECKotwnhn6C5Q==',
    ),
  },
];
