/* A product of rows with weights whose columns are normed over the batch, and its gradients: what convolutions, product and norm hand
   each other stays in a cache. Included by scan.c once for each level, after norms_kernel.h, linear_gradients_kernel.h and
   depthwise_backward_kernel.h. */

/* The product's x of some lines of an image. */
static void FN(whole_lines)(const NormedProduct *p, int64_t n, int64_t first, int64_t end, float *to) {
    const Depthwise *d = p->beside;
    int64_t inputs = p->gradients.inputs, channels = d->channels, left = channels % VL;
    for (int64_t y = first; y < end; y++)
        for (int64_t x = 0; x < d->width; x++) {
            const float *from = d->x.data + n * d->x.image + y * d->x.row + x * d->x.pixel;
            float *row = to + (y * d->width + x) * inputs;
            for (int64_t c = 0; c < channels - left; c += VL) *(vu *)(row + c) = *(const vu *)(from + c);
            if (left) FN(put)(row + channels - left, FN(some)(from + channels - left, (int)left), (int)left);
        }
    for (int64_t at = channels; d; d = d->next, at += channels) {
        Depthwise one = *d;
        one.out.data = to + at, one.out.image = 0, one.out.row = one.width * inputs, one.out.pixel = inputs;
        FN(depthwise_rows)(&one, n, first, end);
    }
}

/* The product's x of some rows: of an image, or of fewer lines of the first one. */
NOINLINE void FN(whole_rows)(const NormedProduct *p, int64_t row, int64_t rows, float *to) {
    if (p->beside) {
        int64_t width = p->beside->width, pixels = p->beside->height * width;
        FN(whole_lines)(p, row / pixels, 0, (rows + width - 1) / width, to);
    } else {
        Norms before = *p->before;
        before.out = to - row * before.columns;
        FN(norm_rows)(&before, row, rows, 0);
    }
}

/* The product's rows, and their sums where asked for. */
NOINLINE void FN(product_rows)(const NormedProduct *p, int64_t row, int64_t end, float *sums) {
    for (; row < end; row += LINEAR_TASK) {
        int64_t last = end - row < LINEAR_TASK ? end : row + LINEAR_TASK;
        FN(linear_rows)(&p->product, row, last);
        if (sums) FN(norm_totals)(&p->norm, row, last - row, sums, 0);
    }
}

static void FN(normed_sums)(const NormedProduct *shared, int64_t slot, int64_t first, int64_t end, int64_t block) {
    NormedProduct p = *shared;
    int64_t inputs = p.gradients.inputs;
    int made = p.before || p.beside;
    float *sums = p.norm.sums + slot * 2 * p.norm.pitch, *whole = p.whole + slot * 2 * block * inputs;
    Linear start = p.product;
    start.out = p.scratch + slot * block * p.norm.pitch; /* the first row of all, which each thread makes for itself */
    if (made) {
        FN(whole_rows)(&p, 0, 1, whole);
        start.x = whole;
    }
    FN(linear_rows)(&start, 0, 1);
    p.norm.pivot = start.out;
    for (int64_t row = first; row < end; row += block) {
        int64_t rows = end - row < block ? end - row : block;
        if (made) {
            FN(whole_rows)(&p, row, rows, whole);
            p.product.x = whole - row * inputs;
        }
        FN(product_rows)(&p, row, row + rows, sums);
    }
}

/* The derivative of softplus where it is y: 1 - e^-y, of small y by its series. */
INLINE vf FN(softplus_slope)(vf y) {
    vf series = y * (1.0f - y * (0.5f - y * ((vf)(1.0f / 6.0f) - y * (vf)(1.0f / 24.0f))));
    return y < 0.03f ? series : 1.0f - FN(exp_negative)(-y);
}

/* The gradients of some rows before an activation, from its result. */
INLINE void FN(slopes_back)(const Norms *m, int64_t row, int64_t rows, float *to, const int activation) {
    const float *y = m->x + row * m->x_row, *grad = m->grad + row * m->grad_row;
    for (int64_t i = 0; i < rows; i++, y += m->x_row, grad += m->grad_row, to += m->columns)
        for (int64_t c = 0; c < m->columns; c += VL) {
            int lanes = m->columns - c < VL ? (int)(m->columns - c) : VL;
            FN(norm_fetch)(y + c, m->x_row), FN(norm_fetch)(grad + c, m->grad_row);
            vf made = FN(some)(y + c, lanes), g = FN(some)(grad + c, lanes);
            if (activation == PRODUCT_RELU) g = made > 0.0f ? g : (vf)0.0f;
            if (activation == PRODUCT_SOFTPLUS) g *= FN(softplus_slope)(made);
            if (activation == PRODUCT_TANH) g *= 1.0f - made * made;
            if (activation == PRODUCT_SIGMOID) g *= made * (1.0f - made);
            FN(put)(to + c, g, lanes);
        }
}

static void FN(normed_back)(const NormedProduct *shared, int64_t slot, int64_t first, int64_t end, int64_t block) {
    NormedProduct p = *shared;
    int64_t inputs = p.gradients.inputs, outputs = p.gradients.outputs;
    float *weights = p.gradients.weights + slot * outputs * inputs, *bias = p.gradients.bias ? p.gradients.bias + slot * outputs : (float *)0;
    float *slopes = p.scratch + slot * block * p.norm.pitch, *whole = p.whole + slot * 2 * block * inputs, *of_whole = whole + block * inputs;
    DepthwiseBackward beside[MOST_BESIDE];
    int count = 0;
    for (const DepthwiseBackward *d = p.beside_back; d && count < MOST_BESIDE; d = d->next, count++) {
        beside[count] = *d;
        Grid grad = {of_whole, 0, d->width * inputs, inputs};
        if (!count) beside[0].base = grad;
        grad.data += (count + 1) * d->channels, beside[count].grad = grad;
        if (count) beside[count - 1].next = &beside[count];
    }
    for (int64_t row = first; row < end; row += block) {
        int64_t rows = end - row < block ? end - row : block;
        const float *grad = slopes;
        p.norm.out = slopes - row * outputs;
        switch (p.norm.work) {
        case NORM_BACK: FN(norm_rows)(&p.norm, row, rows, 1); break;
        case PRODUCT_RELU: FN(slopes_back)(&p.norm, row, rows, slopes, PRODUCT_RELU); break;
        case PRODUCT_SOFTPLUS: FN(slopes_back)(&p.norm, row, rows, slopes, PRODUCT_SOFTPLUS); break;
        case PRODUCT_TANH: FN(slopes_back)(&p.norm, row, rows, slopes, PRODUCT_TANH); break;
        case PRODUCT_SIGMOID: FN(slopes_back)(&p.norm, row, rows, slopes, PRODUCT_SIGMOID); break;
        default: grad = p.norm.grad + row * p.norm.grad_row;
        }
        p.product.x = grad - row * p.product.x_row;
        const float *x = p.gradients.x + row * p.gradients.x_row;
        if (p.before || p.beside) {
            FN(whole_rows)(&p, row, rows, whole);
            x = whole;
        }
        if (p.beside) p.product.out = of_whole - row * inputs;
        if (p.product.out) FN(product_rows)(&p, row, row + rows, (float *)0);
        FN(gradient_block)(&p.gradients, grad, x, rows, weights, bias, row > first);
        if (p.beside) FN(depthwise_back)(beside, row / block, slot);
        if (p.before)
            for (int64_t some = row; some < row + rows; some += NORM_ROWS)
                FN(norm_totals)(p.before, some, row + rows - some < NORM_ROWS ? row + rows - some : NORM_ROWS,
                                p.before->sums + slot * 2 * p.before->pitch, 1);
    }
}

EXPORT void FN(hsmamba_normed_product)(NormedProduct *p) {
    int64_t slot, image = p->beside ? p->beside->height * p->beside->width : 1, block = p->beside ? image : GRADIENT_ROWS;
    int64_t images = p->norm.rows / image;
    while ((slot = __atomic_fetch_add(&p->norm.next_slot, 1, __ATOMIC_RELAXED)) < p->norm.slots) {
        int64_t first = images * slot / p->norm.slots * image, end = images * (slot + 1) / p->norm.slots * image;
        (p->norm.work == NORM_SUMS ? FN(normed_sums) : FN(normed_back))(p, slot, first, end, block);
    }
}
