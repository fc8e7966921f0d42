"""A processing script of QGIS: `hsmamba classify`, a map of classes of a hyperspectral or multispectral image."""

import os
import sys

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputRasterLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hsmamba_command as hsmamba


class HsmambaClassify(QgsProcessingAlgorithm):
    """Classify an image with a trained model."""

    def createInstance(self):
        return HsmambaClassify()

    def name(self):
        return "hsmamba_classify"

    def displayName(self):
        return "Classify an image"

    def group(self):
        return "hsmamba"

    def groupId(self):
        return "hsmamba"

    def shortHelpString(self):
        return (
            "Labels every pixel of an image with a trained model, by the command line of hsmamba. The model is a "
            "weight of the zoo, or a folder that <code>hsmamba finetune</code> wrote; a weight knows the classes "
            "of the ground that it was trained on. The map opens with the names and colours of its classes; the "
            "confidence (0 to 1) lies beside it."
        )

    def initAlgorithm(self, config=None):
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Image"))
        self.addParameter(
            QgsProcessingParameterString("MODEL", "Model: a weight, or a model folder", "md2f_mamba.indian_pines")
        )
        self.addParameter(
            QgsProcessingParameterRasterLayer("AUX", "Second source on the same grid (LiDAR, SAR)", optional=True)
        )
        self.addParameter(QgsProcessingParameterVectorLayer("AREA", "Polygons to stay within", optional=True))
        self.addParameter(
            QgsProcessingParameterBoolean("SMOOTH", "Smooth between neighbours that look alike", defaultValue=False)
        )
        self.addParameter(QgsProcessingParameterBoolean("MASK", "Leave out pixels without data", defaultValue=True))
        program = QgsProcessingParameterString("PROGRAM", "The program hsmamba, or its path", hsmamba.PROGRAM)
        program.setFlags(program.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(program)
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Map"))
        self.addOutput(QgsProcessingOutputRasterLayer("CONFIDENCE", "Confidence"))

    def processAlgorithm(self, parameters, context, feedback):
        aux = self.parameterAsRasterLayer(parameters, "AUX", context)
        area = self.parameterAsVectorLayer(parameters, "AREA", context)
        out = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        try:
            command = hsmamba.classify_command(
                self.parameterAsRasterLayer(parameters, "INPUT", context).source(),
                self.parameterAsString(parameters, "MODEL", context),
                out,
                aux=aux.source() if aux else "",
                area=hsmamba.source_file(area.source()) if area else "",
                smooth=self.parameterAsBool(parameters, "SMOOTH", context),
                mask=self.parameterAsBool(parameters, "MASK", context),
                program=self.parameterAsString(parameters, "PROGRAM", context),
            )
            hsmamba.run(command, feedback.pushConsoleInfo, feedback.isCanceled)
        except hsmamba.CommandError as error:
            raise QgsProcessingException(str(error)) from error
        return {"OUTPUT": out, "CONFIDENCE": hsmamba.confidence_file(out)}
